// Sends one message with Go's net/smtp; see README.md.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/smtp"
	"os"
)

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func connect(address, host, mode string, trust *tls.Config) *smtp.Client {
	if mode != "implicit" {
		client, err := smtp.Dial(address)
		must(err, "connect")
		return client
	}
	connection, err := tls.Dial("tcp", address, trust)
	must(err, "TLS")
	client, err := smtp.NewClient(connection, host)
	must(err, "greeting")
	return client
}

func main() {
	host, mode, user := os.Getenv("SMTP_HOST"), os.Getenv("SMTP_TLS"), os.Getenv("SMTP_USER")
	certificate, err := os.ReadFile(os.Getenv("SMTP_CA"))
	must(err, "certificate")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	trust := &tls.Config{RootCAs: roots, ServerName: host}

	message, err := os.ReadFile(os.Args[1])
	must(err, "message")
	client := connect(host+":"+os.Getenv("SMTP_PORT"), host, mode, trust)
	must(client.Hello(os.Getenv("SMTP_HELLO")), "EHLO")
	if mode == "starttls" {
		must(client.StartTLS(trust), "STARTTLS")
	}
	if user != "" {
		must(client.Auth(smtp.PlainAuth("", user, os.Getenv("SMTP_PASSWORD"), host)), "AUTH")
	}
	must(client.Mail(os.Args[2]), "MAIL")
	for _, forwardPath := range os.Args[3:] {
		must(client.Rcpt(forwardPath), "RCPT "+forwardPath)
	}
	writer, err := client.Data()
	must(err, "DATA")
	_, err = writer.Write(message)
	must(err, "mail data")
	must(writer.Close(), "final dot")
	must(client.Quit(), "QUIT")
}
