# Thin targets over scripts/; `make help` lists them. Everything runs in .venv, which
# scripts/bootstrap makes and keeps up to date. ARGS goes to the command behind a target:
#   make test-py ARGS="-k cancel -x"
SHELL := /bin/bash
PY := .venv/bin/python
ARGS ?=
T ?= 60
.DEFAULT_GOAL := help
.PHONY: help setup demo info test test-py test-sdks test-c valgrind tsan fuzz fault soak asan debug lint types \
  bench bench-quick bench-compare bench-micro bench-memory bench-soak cov llama wheel sdist-test release-check \
  audit clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: ## make .venv ready for everything below (the other targets do it by themselves)
	@scripts/bootstrap test

demo: ## thousands of calls against a mock LLM, side by side with a naive loop
	@scripts/bootstrap run
	@$(PY) -m llmcurl demo $(ARGS)

info: ## versions and features of libcurl, TLS, Python
	@scripts/bootstrap run
	@$(PY) -m llmcurl info $(ARGS)

test: ## everything: C tests, the suite under ASan + UBSan, then the suite itself
	@scripts/bootstrap test
	@scripts/test

test-py: ## pytest only
	@scripts/bootstrap test
	@$(PY) -m pytest $(ARGS)

test-sdks: ## the blocks of docs/sdks.md and README in fresh environments; httpx's own suite on our transport
	@scripts/bootstrap test
	@scripts/new-user
	@scripts/sdks $(ARGS)
	@scripts/upstream

test-c: ## the C tests of csrc/core, under ASan + UBSan
	@scripts/bootstrap test
	@LLMCURL_WERROR=$${LLMCURL_WERROR:-1} $(PY) scripts/test_c.py $(ARGS)

valgrind: ## the C tests of csrc/core under memcheck
	@scripts/bootstrap test
	@command -v valgrind >/dev/null || { echo "valgrind is not installed: apt-get install valgrind" >&2; exit 1; }
	@$(PY) scripts/test_c.py --valgrind $(ARGS)

tsan: ## the threaded C test of csrc/core and the tests with threads under ThreadSanitizer
	@scripts/bootstrap test
	@$(PY) scripts/test_c.py --tsan
	@scripts/tsan $(ARGS)

fuzz: ## the parsers of csrc/core with libFuzzer (clang) or our own mutations, T seconds each (T=60)
	@scripts/bootstrap test
	@$(PY) scripts/test_c.py --fuzz $(T) $(ARGS)

asan: ## pytest against a build with AddressSanitizer, leaks and UBSan
	@scripts/bootstrap test
	@LLMCURL_WERROR=$${LLMCURL_WERROR:-1} scripts/asan $(ARGS)

debug: ## pytest against a -O0 build with assertions, asyncio in debug mode
	@scripts/bootstrap test
	@LLMCURL_DEBUG=1 $(PY) setup.py -q build_py --build-lib build/debug \
	  build_ext --build-lib build/debug
	@PYTHONPATH=$$PWD/build/debug PYTHONASYNCIODEBUG=1 $(PY) -m pytest $(ARGS)

fault: ## each call that can fail does, in every scenario, under ASan (ARGS="--all": each time)
	@scripts/bootstrap test
	@scripts/fault $(ARGS)

soak: ## mixed work against servers that fail, T seconds (T=600): nothing grows, nothing is lost
	@scripts/bootstrap test
	@nice -n 5 $(PY) tests/soak/soak.py --seconds $(if $(filter file,$(origin T)),600,$(T)) $(ARGS)

lint: ## ruff, and the rules for the C sources
	@scripts/bootstrap test
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pytest -q tests/test_source.py

types: ## stubs against the built extension, mypy on the package
	@scripts/bootstrap test
	@$(PY) -m mypy.stubtest llmcurl._native
	@$(PY) -m mypy python/llmcurl

bench: ## the benchmarks beside their peers, 10 minutes; the first time it installs them and builds libcurl
	@scripts/bootstrap test
	@$(PY) scripts/build_deps.py
	@$(PY) benchmarks/run.py $(ARGS)

bench-quick: ## a part of them, 90 seconds
	@scripts/bootstrap test
	@$(PY) benchmarks/run.py --quick $(ARGS)

bench-compare: ## two revisions in pairs: make bench-compare A=main B=.
	@scripts/bootstrap test
	@$(PY) benchmarks/compare.py "$(or $(A),main)" "$(or $(B),.)" $(ARGS)

bench-micro: ## instructions per step of a call, by callgrind, beside benchmarks/micro/TABLE.md
	@scripts/bootstrap test
	@$(PY) benchmarks/micro/run.py $(ARGS)

# two more, see benchmarks/README.md: where the memory of a waiting call lies; a million HTTP/2 calls
bench-memory:
	@scripts/bootstrap test
	@$(PY) benchmarks/micro/memory.py $(ARGS)

bench-soak:
	@scripts/bootstrap test
	@$(PY) benchmarks/soak.py $(ARGS)

cov: ## line coverage of the C sources by the suite, the C tests and make fault's failures
	@scripts/bootstrap test
	@$(PY) scripts/cov.py $(ARGS)

llama: ## the LLM client against llama.cpp's server, which is compiled first (ten minutes)
	@scripts/bootstrap test
	@scripts/venv llama
	@$(PY) -m pytest tests/llm/llama_cpp_server.py $(ARGS)

sdist-test: ## build the sdist, install it into a fresh venv with the system's libcurl, run a part of the suite
	@scripts/bootstrap test
	@scripts/sdist-test $(ARGS)

wheel: ## wheels with their own libcurl into dist/, checked and tested (ARGS="python3.12 python3.13")
	@scripts/bootstrap test
	@scripts/wheel $(ARGS)

release-check: ## is this commit ready: version, changelog, pins, clean tree, dist/, the audit (ARGS=vuln.json)
	@scripts/bootstrap test
	@$(PY) scripts/release.py check $(ARGS)

audit: ## the pinned libcurl against curl's list of vulnerabilities (ARGS=vuln.json if it was fetched by hand)
	@scripts/bootstrap test
	@$(PY) scripts/release.py audit $(ARGS)

clean: ## remove what was built, but for the libraries in build/deps
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +
	rm -rf dist python/llmcurl.egg-info python/llmcurl/_native*.so .venv/.built
	find . -path './.venv*' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## also remove these, .venv and the caches
	rm -rf build .venv .venv-* .pytest_cache .mypy_cache .ruff_cache
