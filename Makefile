# make         builds bin/muster
# make run     builds it and starts a server in ./muster-data
# make check   is all that CI runs: about 8 minutes on two cores
# make help    lists the rest
.DEFAULT_GOAL := build
.PHONY: build run test race check arrows fuzz crash soak bench fmt vuln clean help

GO ?= go
# The version comes from git describe, below: a checkout that belongs to another
# user must not stop the go command.
export GOFLAGS += -buildvcs=false
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# How long each fuzz target runs, and how often the server is killed.
FUZZTIME ?= 60s
MUSTER_CRASH_ROUNDS ?= 200
# How long 1,000 clients change, break and stall.
SOAKTIME ?= 10m

# The race detector needs a C compiler with the headers of the C library.
CC_WORKS := $(shell printf '\043include <stdlib.h>\nint main(void) { return 0; }\n' | \
	$(firstword $(shell $(GO) env CC)) -x c - -o /dev/null 2>/dev/null && echo yes)
RACE := $(if $(CC_WORKS),-race)

# In CI each test is named, so that the log shows what ran.
TEST := $(GO) test -timeout 10m $(if $(filter 1,$(MUSTER_CI)),-v)

build: ## build bin/muster: static, reproducible, for this machine
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/muster ./cmd/muster

run: build ## build and start a server in ./muster-data
	./bin/muster serve --data ./muster-data

test: ## run the tests
	$(TEST) ./...

race: ## run the tests with the race detector
	@$(MAKE) --no-print-directory have-cc
	$(TEST) $(RACE) ./...

check: build ## all that CI runs
	@echo "== gofmt"
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "not formatted (make fmt):"; echo "$$out"; exit 1; }
	@echo "== go vet"
	$(GO) vet ./...
	$(GO) vet -tags crash ./...
	$(GO) vet -tags soak ./broker
	@echo "== staticcheck"
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags crash ./...
	$(GO) tool staticcheck -tags soak ./broker
	@echo "== go.mod is tidy"
	$(GO) mod tidy -diff
	@echo "== import arrows"
	@$(MAKE) --no-print-directory arrows
	@echo "== tests"
	@$(MAKE) --no-print-directory race
	@echo "== tests of the broker without event loops"
	MUSTER_TEST_LOOPS=-1 $(TEST) $(RACE) ./broker
	@echo "== kill -9, a handful of rounds"
	@$(MAKE) --no-print-directory crash MUSTER_CRASH_ROUNDS=5
	@$(MAKE) --no-print-directory have-cc
	@echo "== make check: passed"

arrows: ## which package may import which
	$(GO) test ./docs -run TestImportArrows

fuzz: ## run each fuzz target for 60 seconds (FUZZTIME)
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "== $$name in $$(dirname "$$file"), $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done; \
	done

crash: ## kill -9 the server 200 times under load, and compare (MUSTER_CRASH_ROUNDS)
	@$(GO) test -tags crash -list '^TestCrash' ./cmd/muster | grep -q '^TestCrash' || \
		{ echo "cmd/muster has no TestCrash under the tag crash"; exit 1; }
	MUSTER_CRASH_ROUNDS=$(MUSTER_CRASH_ROUNDS) $(GO) test -tags crash -count 1 -v -timeout 60m -run '^TestCrash' ./cmd/muster

soak: ## 1,000 clients, honest and broken, for 10 minutes (SOAKTIME), and what floods cost
	SOAKTIME=$(SOAKTIME) $(GO) test -tags soak -count 1 -v -timeout 0 -run '^TestSoak$$|^TestCostOf' ./broker

bench: ## run the benchmarks of store, ledger and fan-out
	$(GO) test -run '^$$' -bench . -benchmem ./store/... ./ledger/... ./broker/...

fmt: ## format the code
	gofmt -w .

vuln: ## look for known vulnerabilities; needs the network; for releases
	$(GO) tool govulncheck ./...

clean: ## remove what was built; the data of make run stays
	rm -rf bin

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 10

.PHONY: have-cc
have-cc:
ifneq ($(RACE),)
	@:
else
	@echo "************************************************************************"
	@echo "*** NO C COMPILER: the tests run WITHOUT the race detector.          ***"
	@echo "*** Install one, with the headers of the C library (Debian: gcc and  ***"
	@echo "*** libc6-dev), to run them as CI does.                              ***"
	@echo "************************************************************************"
ifeq ($(MUSTER_CI),1)
	@echo "In CI that is an error."; exit 1
endif
endif
