# Two commands: `make run` shows a game of a guest on this machine's screen, `make test` proves
# that all of it works. Both do their own set-up. `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(PATH):$(HOME)/.cargo/bin

AGENT := target/release/transom-agent
RELAY := target/release/transom
SECONDS_TO_FUZZ ?= 60

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: setup-build ## target/release/transom and target/release/transom-agent
	@echo "build: relay and agent (the first time takes some minutes)"
	cargo build --release --locked -p transom-agent -p transom-relay

.PHONY: windows
windows: setup-windows ## target/windows/transom.exe, built on Linux
	tools/windows

.PHONY: test-windows
test-windows: setup-test-windows image windows ## runs transom.exe and its unit tests under Wine
	tools/windows --test
	tests/uml/build-kernel
	cargo build --release --locked -p transom-agent -p transom-tests
	cargo test --release --locked -p transom-tests --test windows -- --ignored --test-threads=1

PREFIX ?= /usr/local
.PHONY: install
install: ## transom, its man pages and completions into PREFIX (/usr/local); DESTDIR for packages
	@[ -x $(RELAY) ] || { echo "install: first run make build, as the user who owns this folder" >&2; exit 1; }
	install -D -m 755 $(RELAY) "$(DESTDIR)$(PREFIX)/bin/transom"
	set -e; manual=$$(mktemp -d); trap 'rm -rf "$$manual"' EXIT; $(RELAY) manual "$$manual"; \
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1"; \
	install -m 644 "$$manual"/man1/*.1 "$(DESTDIR)$(PREFIX)/share/man/man1/"; \
	install -D -m 644 "$$manual/bash/transom.bash" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/transom"; \
	install -D -m 644 "$$manual/zsh/_transom" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_transom"; \
	install -D -m 644 "$$manual/fish/transom.fish" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/transom.fish"

.PHONY: image
image: build setup-image ## dist/transom.vhdx and dist/transom.raw; FLAVOUR=gpu: also transom-gpu, with GPU drivers
	image/build
	$(if $(filter gpu,$(FLAVOUR)),image/build --output transom-gpu --overlay "$$(image/gpu/build $(addprefix --module ,$(MODULES)))")

.PHONY: run
run: setup-run image ## boots the guest, relays its screen, says how to watch
	tools/run

.PHONY: test
test: setup-test image ## unit tests, then machine tests in real guests
	@echo "test [1/4] unit tests, and every fuzz target briefly; does it compile for Windows?"
	tools/windows --check
	cargo test --release --locked --workspace --exclude transom-tests
	cargo run --release --locked -p transom-fuzz --bin conformance 2000
	@echo "test [2/4] every benchmark, once"
	$(MAKE) --no-print-directory bench-once
	@echo "test [3/4] kernel and helpers of the fast test guests"
	tests/uml/build-kernel
	cargo build --release --locked -p transom-tests
	@echo "test [4/4] machine tests, one guest after the other"
	cargo test --release --locked -p transom-tests --no-fail-fast -- --test-threads=1

.PHONY: endurance
endurance: setup-test image ## ten minutes of streaming: does anything grow? HOURS=1: the game, too
	tests/uml/build-kernel
	cargo build --release --locked -p transom-tests
	HOURS=$(HOURS) cargo test --release --locked -p transom-tests --test endurance -- --ignored --nocapture

.PHONY: va-driver
va-driver: setup-test ## target/va-driver/transom_drv_video.so: VA-API in software, for tests
	tests/va-driver/build

.PHONY: lint
lint: setup-build ## formatting, clippy with warnings as errors, licences
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	tools/licences

.PHONY: bench
bench: setup-bench ## against what one would take instead, in turns; PARTS="bench-webrtc" some of it
	cargo build --release --locked -p transom-relay -p transom-tests --bin transom --bin figures --bin forwarder
	$(if $(filter bench bench-capacity,$(or $(PARTS),bench)),tests/peer/gcc/build >/dev/null)
	target/release/figures $(or $(PARTS),bench)

.PHONY: bench-micro
bench-micro: setup-build ## micro-benchmarks of the hot paths
	cargo bench --locked --workspace --exclude transom-tests

.PHONY: bench-once
bench-once:
	cargo test --release --locked --workspace --exclude transom-tests --benches

.PHONY: figures
figures: setup-test image ## docs/performance.md anew; PARTS="idle input" some of it
	tests/uml/build-kernel
	tests/peer/build
	cargo build --release --locked -p transom-tests
	target/release/figures $(PARTS)

.PHONY: conformance
conformance: setup-run ## 100 000 random screens, coded and decoded: bit-exact under ffmpeg?
	cargo build --release --locked -p transom-fuzz --bin conformance
	target/release/conformance 100000

.PHONY: corpus
corpus: setup-test image ## records what a guest's screen shows, for `make contest`
	tests/uml/build-kernel
	tests/corpus/build
	cargo build --release --locked -p transom-tests
	target/release/corpus

.PHONY: contest
contest: setup-test ## the encoder against x264 and OpenH264, on the corpus
	cargo build --release --locked -p transom-tests --bin contest
	target/release/contest

.PHONY: fuzz
fuzz: setup-build ## every fuzz target for SECONDS_TO_FUZZ (60) seconds
	fuzz/run $(SECONDS_TO_FUZZ)

.PHONY: clean
clean: ## removes all that was built here; the cache in ~/.cache/transom stays
	rm -rf target build dist

.PHONY: setup-build setup-bench setup-image setup-run setup-test setup-windows setup-test-windows
setup-build setup-bench setup-image setup-run setup-test setup-windows setup-test-windows: setup-%:
	@tools/setup $*
