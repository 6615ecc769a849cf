// Reads contents as Go programs do. See clients.rs for what comes and goes.
package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
	"os"
)

// All that a reader gives before its first error.
func all(reader io.Reader, err error) []byte {
	var read bytes.Buffer
	if err == nil {
		_, _ = io.Copy(&read, reader)
	}
	return read.Bytes()
}

func reading(codings []string, data []byte, raw bool) []byte {
	for at := len(codings) - 1; at >= 0; at-- {
		source := bytes.NewReader(data)
		switch codings[at] {
		case "gzip":
			// As net/http: every member.
			reader, err := gzip.NewReader(source)
			data = all(reader, err)
		case "deflate":
			if !raw {
				reader, err := zlib.NewReader(source)
				if err == nil {
					data = all(reader, nil)
					break
				}
				source = bytes.NewReader(data)
			}
			data = all(flate.NewReader(source), nil)
		default:
			return nil
		}
	}
	return data
}

func main() {
	take, give := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	number := func() int {
		var value uint32
		if binary.Read(take, binary.LittleEndian, &value) != nil {
			os.Exit(0)
		}
		return int(value)
	}
	block := func() []byte {
		bytes := make([]byte, number())
		if _, err := io.ReadFull(take, bytes); err != nil {
			os.Exit(1)
		}
		return bytes
	}
	put := func(bytes []byte) {
		_ = binary.Write(give, binary.LittleEndian, uint32(len(bytes)))
		_, _ = give.Write(bytes)
	}
	for {
		var codings []string
		for left := number(); left > 0; left-- {
			codings = append(codings, string(block()))
		}
		var data []byte
		for left := number(); left > 0; left-- {
			data = append(data, block()...)
		}
		_ = binary.Write(give, binary.LittleEndian, uint32(2))
		put([]byte("compress"))
		put(reading(codings, data, false))
		put([]byte("flate only"))
		put(reading(codings, data, true))
		_ = give.Flush()
	}
}
