package main

import (
	"io"
	"net"
)

// relay forwards every connection to a server and adds one round trip of latency.
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
