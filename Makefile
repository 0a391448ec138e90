# The front door. Each target is a script in tools/ that can be run by itself.
.PHONY: help setup build demo test bench asan tsan fuzz fmt lint clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

setup: ## install what is missing: system packages, .venv, the package
	@tools/setup.sh

build: ## the C library, its tests and examples in build/release
	@tools/setup.sh && tools/build.sh release -Dbuildtype=release -Dpython=true

demo: ## a page in your browser, fed over WebTransport
	@tools/demo.sh

test: ## everything CI runs
	@tools/test.sh

bench: ## measure, and print a table
	@tools/bench.sh

asan: ## unit and simulation tests under AddressSanitizer and UBSan
	@tools/sanitize.sh asan

tsan: ## ring and server tests under ThreadSanitizer
	@tools/sanitize.sh tsan

fuzz: ## each fuzz target for a minute (SECONDS=60)
	@tools/fuzz.sh $(or $(SECONDS),60)

fmt: ## lay out C and Python files
	@tools/fmt.sh

lint: ## layout, lint rules, layers, generated pages
	@tools/lint.sh

clean: ## remove build/
	@tools/clean.sh
