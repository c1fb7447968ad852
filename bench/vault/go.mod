module keyferry/bench/vault

go 1.25
