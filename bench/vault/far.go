package main

import (
	"net"
	"sync/atomic"
	"time"
)

// farListener accepts connections behind simulated network latency.
type farListener struct {
	net.Listener
	rtt *atomic.Int64
}

func (l farListener) Accept() (net.Conn, error) {
	near, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	far := &farConn{Conn: near, rtt: l.rtt, under: make(chan packet, 64)}
	go far.deliver()
	return far, nil
}

// farConn holds back what is written for one round trip, so that a client sees it as late as if requests and answers travelled. The
// first answer is late by one more, which opening the connection would have cost the client; loopback does that in no time.
type farConn struct {
	net.Conn
	rtt    *atomic.Int64
	under  chan packet // in flight
	closed atomic.Bool
	spoke  bool
}

type packet struct {
	due  time.Time
	text []byte
}

func (c *farConn) Write(text []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	late := time.Duration(c.rtt.Load())
	if !c.spoke {
		late *= 2
		c.spoke = true
	}
	c.under <- packet{time.Now().Add(late), append([]byte(nil), text...)}
	return len(text), nil
}

// Close waits for packets in flight.
func (c *farConn) Close() error {
	if !c.closed.Swap(true) {
		c.under <- packet{}
	}
	return nil
}

func (c *farConn) deliver() {
	defer c.Conn.Close()
	for packet := range c.under {
		if packet.text == nil {
			return
		}
		time.Sleep(time.Until(packet.due))
		if _, err := c.Conn.Write(packet.text); err != nil {
			c.closed.Store(true)
			c.drain()
			return
		}
	}
}

// drain takes what a writer still hands over, so that it does not wait for ever.
func (c *farConn) drain() {
	for {
		select {
		case packet := <-c.under:
			if packet.text == nil {
				return
			}
		case <-time.After(time.Second):
			return
		}
	}
}
