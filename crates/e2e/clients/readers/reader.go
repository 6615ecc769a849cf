// Go's net/http as a reader; see tests/readers.rs.
//
//	reader BASE PROXY AUTHORITY FOLDER
package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

const mark = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

// All that a reader gives before its first error.
func all(reader io.Reader, err error) []byte {
	var read bytes.Buffer
	if err == nil {
		_, _ = io.Copy(&read, reader)
	}
	return read.Bytes()
}

// As programs do for themselves what the transport has not undone.
func decoded(coding string, data []byte) []byte {
	codings := strings.Split(strings.ToLower(coding), ",")
	for at := len(codings) - 1; at >= 0; at-- {
		switch strings.TrimSpace(codings[at]) {
		case "gzip", "x-gzip":
			reader, err := gzip.NewReader(bytes.NewReader(data))
			data = all(reader, err)
		case "deflate":
			reader, err := zlib.NewReader(bytes.NewReader(data))
			if err != nil {
				reader = flate.NewReader(bytes.NewReader(data))
			}
			data = all(reader, nil)
		}
	}
	return data
}

func main() {
	base, proxy, authority, folder := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	trusted := x509.NewCertPool()
	pem, _ := os.ReadFile(authority)
	trusted.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	if proxy != "" {
		address, _ := url.Parse(proxy)
		transport.Proxy = http.ProxyURL(address)
	}
	client := &http.Client{Transport: transport}
	get := func(url string) (int, []byte) {
		answer, err := client.Get(url)
		if err != nil {
			return 0, nil
		}
		defer answer.Body.Close()
		coding := strings.Join(answer.Header.Values("Content-Encoding"), ",")
		return answer.StatusCode, decoded(coding, all(answer.Body, nil))
	}
	post := func(url, coding string, body []byte) int {
		request, _ := http.NewRequest("POST", url, bytes.NewReader(body))
		if coding != "" {
			request.Header.Set("Content-Encoding", coding)
		}
		answer, err := client.Do(request)
		if err != nil {
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	table, _ := os.Open(folder + "/table")
	for lines := bufio.NewScanner(table); lines.Scan(); {
		number, coding, _ := strings.Cut(lines.Text(), " ")
		status, read := get(base + "/" + number)
		found := 0
		if bytes.Contains(read, []byte(mark)) {
			found = 1
		}
		get(fmt.Sprintf("%s/read/%s/%d/%d", base, number, status, found))
		body, _ := os.ReadFile(folder + "/" + number)
		get(fmt.Sprintf("%s/sent/%s/%d/0", base, number, post(base+"/up/"+number, coding, body)))
	}
}
