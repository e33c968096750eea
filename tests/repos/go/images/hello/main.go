package main

import "os"

func main() {
	greeting, err := os.ReadFile("/usr/local/share/hello/greeting")
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.Write(greeting)
}
