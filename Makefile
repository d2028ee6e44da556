# The short way to everything; each target is a script in tools/, so that the Dockerfile and CI run
# the same steps.
.POSIX:
.SUFFIXES:
.PHONY: help deps build demo check test test-long bench bench-nexmark bench-flink-nexmark fmt lint reference clean

help:
	@echo "make demo       build Weir and watch the shipped example for about 20 seconds"
	@echo "make build      build/release/weir"
	@echo "make check      unit, ABI, JIT, specs and lints (under a minute once built)"
	@echo "make test       everything with independent readers, sanitizers and crashes (about 10 minutes)"
	@echo "make test-long  long fuzzing with coverage, thread sanitizer, every fault point"
	@echo "make bench      one line a stage, beside its floor measured in the same run"
	@echo "make bench-nexmark  queries of the Nexmark benchmark, events per CPU second"
	@echo "make bench-flink-nexmark  five of them from Kafka, beside Flink SQL on the same topic"
	@echo "make fmt lint   format the C sources; run the lints alone"
	@echo "make reference  regenerate docs/reference from the tables"
	@echo "make deps       install what building and testing need (Debian 12)"

deps:
	@tools/deps build
	@tools/deps test

build:
	@tools/deps build
	@tools/build release weir

demo: build
	@tools/demo

check:
	@tools/deps build
	@tools/deps test
	@python3 tools/run_tests.py check

test:
	@tools/deps build
	@tools/deps test
	@python3 tools/run_tests.py test

test-long:
	@tools/deps build
	@tools/deps test
	@tools/deps fuzz
	@python3 tools/run_tests.py long

bench:
	@tools/deps build
	@tools/deps test
	@tools/bench

bench-nexmark: build
	@python3 tests/bench/nexmark.py

bench-flink-nexmark: build
	@tools/deps test
	@python3 tests/bench/nexmark_flink.py

fmt:
	@tools/fmt

lint:
	@python3 tools/run_tests.py lint

reference:
	@python3 tools/reference.py

clean:
	rm -rf build
