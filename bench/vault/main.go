// Command vault answers like Azure Key Vault and the token endpoint of Entra ID, with made-up answers and as fast as it can, so that
// a benchmark measures its clients. It keeps nothing and checks nothing but that a token is there.
//
// Every connection simulates one round trip of latency: TCP and TLS cost a round trip each when it is opened, and so does
// each request. With -relay-to it answers nothing itself, and hands connections on to a real server with the same latency. The control
// port, which is plain HTTP, configures it and returns the recorded requests:
//
//	POST /tune?rtt=20ms&limit=100&retry_after=1   limit: answers of the vault a second; 0: no limit
//	POST /rotate                                  every secret has a new version
//	GET  /counts                                  {"secret": 10, "token": 1, ...} since the last POST /forget
//	POST /forget
package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const tokenPrefix = "load-"

// vault is the whole state.
type vault struct {
	rtt        atomic.Int64 // nanoseconds
	generation atomic.Int64 // of every secret

	mutex      sync.Mutex
	counts     map[string]int
	limit      int // answers a second
	retryAfter int // seconds
	second     int64
	answered   int // in this second
}

func main() {
	listen := flag.String("listen", "127.0.0.1:443", "where the vaults and the token endpoint are")
	control := flag.String("control", "127.0.0.1:0", "where the control port is")
	certificate := flag.String("certificate", "", "PEM file of the certificate and its key")
	relayTo := flag.String("relay-to", "", "address of the server that connections are handed on to")
	flag.Parse()

	served := &vault{counts: map[string]int{}}
	served.generation.Store(1)
	cloud, err := net.Listen("tcp", *listen)
	must(err)
	knobs, err := net.Listen("tcp", *control)
	must(err)
	fmt.Printf("listens on %s, control on %s\n", cloud.Addr(), knobs.Addr())

	go func() { must(http.Serve(knobs, served.controls())) }()
	clients := farListener{cloud, &served.rtt}
	if *relayTo != "" {
		must(relay(clients, *relayTo))
	}
	pair, err := tls.LoadX509KeyPair(*certificate, *certificate)
	must(err)
	// Key Vault speaks HTTP/1.1.
	server := &http.Server{
		Handler:      http.HandlerFunc(served.answer),
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.New(silence{}, "", 0), // clients that are killed
	}
	must(server.ServeTLS(clients, "", ""))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type silence struct{}

func (silence) Write(text []byte) (int, error) { return len(text), nil }

// ---- what is answered ------------------------------------------------------------------------------

func (v *vault) answer(w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	if strings.HasPrefix(host, "login.") {
		v.login(w, r, host)
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !strings.HasPrefix(token, tokenPrefix) {
		v.count("challenge")
		w.Header().Set("WWW-Authenticate",
			`Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"`)
		refuse(w, http.StatusUnauthorized, "Unauthorized")
		return
	}
	if !v.admitted() {
		v.count("throttled")
		w.Header().Set("Retry-After", strconv.Itoa(v.retryAfter))
		refuse(w, http.StatusTooManyRequests, "Throttled")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 || parts[0] != "secrets" {
		refuse(w, http.StatusNotFound, "SecretNotFound")
		return
	}
	id := fmt.Sprintf("https://%s/secrets/%s/%032x", host, parts[1], v.generation.Load())
	attributes := map[string]any{"enabled": true, "created": 1700000000 + v.generation.Load()}
	if len(parts) == 3 && parts[2] == "versions" {
		v.count("list")
		reply(w, map[string]any{"value": []any{map[string]any{"id": id, "attributes": attributes}}, "nextLink": nil})
		return
	}
	v.count("secret")
	value := v.value(parts[1], strings.TrimPrefix(token, tokenPrefix))
	reply(w, map[string]any{"value": value, "id": id, "attributes": attributes})
}

// value contains identity, secret and time of the request; the number before the first dash of a name is its length in bytes.
func (v *vault) value(name, identity string) string {
	value := fmt.Sprintf("%s/%s/%d", identity, name, v.generation.Load())
	digits, _, _ := strings.Cut(name, "-")
	if length, err := strconv.Atoi(digits); err == nil && length > len(value) {
		value += strings.Repeat(".", length-len(value))
	}
	return value
}

func (v *vault) login(w http.ResponseWriter, r *http.Request, host string) {
	tenant, rest, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
	base := "https://" + host + "/" + tenant
	switch rest {
	case "discovery/instance":
		v.count("discovery")
		reply(w, map[string]any{
			"tenant_discovery_endpoint": "https://" + host + "/common/v2.0/.well-known/openid-configuration",
			"api-version":               "1.1",
			"metadata": []any{map[string]any{
				"preferred_network": host, "preferred_cache": host, "aliases": []string{host},
			}},
		})
	case "v2.0/.well-known/openid-configuration":
		v.count("discovery")
		reply(w, map[string]any{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize", "jwks_uri": base + "/discovery/v2.0/keys",
		})
	case "oauth2/v2.0/token":
		v.count("token")
		reply(w, map[string]any{
			"token_type": "Bearer", "expires_in": 86399, "ext_expires_in": 86399,
			"access_token": tokenPrefix + r.PostFormValue("client_id"),
		})
	default:
		http.NotFound(w, r)
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%q,"message":"The vault of the benchmark refuses."}}`, code)
}

func reply(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	must(json.NewEncoder(w).Encode(document))
}

func (v *vault) count(what string) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	v.counts[what]++
}

// admitted counts answers in windows of one second, as Key Vault does in windows of ten.
func (v *vault) admitted() bool {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if now := time.Now().Unix(); now != v.second {
		v.second, v.answered = now, 0
	}
	if v.limit > 0 && v.answered >= v.limit {
		return false
	}
	v.answered++
	return true
}

// ---- how it behaves --------------------------------------------------------------------------------

func (v *vault) controls() http.Handler {
	knobs := http.NewServeMux()
	knobs.HandleFunc("POST /tune", func(w http.ResponseWriter, r *http.Request) {
		rtt, err := time.ParseDuration(r.FormValue("rtt"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		v.mutex.Lock()
		defer v.mutex.Unlock()
		v.limit, _ = strconv.Atoi(r.FormValue("limit"))
		v.retryAfter, _ = strconv.Atoi(r.FormValue("retry_after"))
		v.rtt.Store(int64(rtt))
	})
	knobs.HandleFunc("POST /rotate", func(http.ResponseWriter, *http.Request) { v.generation.Add(1) })
	knobs.HandleFunc("POST /forget", func(http.ResponseWriter, *http.Request) {
		v.mutex.Lock()
		defer v.mutex.Unlock()
		v.counts = map[string]int{}
	})
	knobs.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		v.mutex.Lock()
		defer v.mutex.Unlock()
		reply(w, v.counts)
	})
	return knobs
}
