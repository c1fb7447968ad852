package main

import (
	"io"
	"net"
)

// relay hands every connection on to the server at an address, which is so a round trip away from its clients.
func relay(clients net.Listener, server string) error {
	for {
		client, err := clients.Accept()
		if err != nil {
			return err
		}
		go join(client, server)
	}
}

func join(client net.Conn, server string) {
	defer client.Close()
	there, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	go func() {
		io.Copy(there, client)
		there.Close()
	}()
	io.Copy(client, there)
}
