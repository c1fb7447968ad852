// Sends requests with HashiCorp's Go client library, for comparison. Each line of standard input is a JSON request. Each line of
// standard output is the response as Go encodes it, in base64 and without its request ID, or "error".
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"
)

type request struct {
	Method string
	Path   string
	Args   map[string]any
}

func main() {
	client, err := api.NewClient(nil) // VAULT_ADDR, VAULT_CACERT, VAULT_TOKEN
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var wanted request
		if err := json.Unmarshal(lines.Bytes(), &wanted); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		content, err := read(client, wanted)
		if err != nil {
			fmt.Println("error")
			continue
		}
		fmt.Println(base64.StdEncoding.EncodeToString(content))
	}
}

func read(client *api.Client, wanted request) ([]byte, error) {
	path, query, _ := strings.Cut(wanted.Path, "?")
	sent := client.NewRequest(wanted.Method, "/v1/"+strings.TrimPrefix(strings.TrimPrefix(path, "/"), "v1/"))
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	sent.Params = values
	if wanted.Args != nil {
		if err := sent.SetJSONBody(wanted.Args); err != nil {
			return nil, err
		}
	}
	answer, err := client.RawRequest(sent)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	secret, err := api.ParseSecret(answer.Body)
	if err != nil {
		return nil, err
	}
	secret.RequestID = ""
	return json.Marshal(secret)
}
