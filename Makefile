# A thin door: Meson and Ninja do the work, in build/.
PREFIX ?= /usr/local
BUILD ?= build
MESON_OPTIONS ?=

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/deps build
	@meson setup --prefix=$(PREFIX) $(MESON_OPTIONS) $(BUILD)

# Make a Debian 12 image (once), boot it, give a root shell.
run:
	@tools/deps build run
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) programs
	@$(BUILD)/bin/insula run deb:bookworm

check:
	@tools/deps build run check
	@$(MAKE) --no-print-directory all
	@tools/check-layers
	@tools/check-files
	@meson test -C $(BUILD) --print-errorlogs

install: all
	@meson configure --prefix=$(PREFIX) $(BUILD)
	@meson install -C $(BUILD) $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

# Unit tests alone, and real guests alone.
check-unit check-e2e: check-%: all
	@meson test -C $(BUILD) --print-errorlogs --suite $*

# Everything again with ASan and UBSan, without the real guests, which would take hours; the oracle
# with UBSan alone, since ASan's shadow memory is in its way; then one of Debian's kernels on the
# interpreter.
check-sanitize:
	@tools/deps build check
	@test -f build-asan/build.ninja || meson setup -Db_sanitize=address,undefined build-asan
	@ninja -C build-asan
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		meson test -C build-asan --no-suite e2e --no-suite pc --no-suite state -t 5 --print-errorlogs
	@test -f build-ubsan/build.ninja || meson setup -Db_sanitize=undefined build-ubsan
	@ninja -C build-ubsan tests/oracle/oracle
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		meson test -C build-ubsan --no-rebuild --suite oracle -t 5 --print-errorlogs
	@tests/kernels/fetch $(BUILD)/kernels cloud
	@# The jail lets nobody trace, as the search for leaks would.
	@ASAN_OPTIONS=detect_leaks=0 tests/kernels/boot.py build-asan/bin/insula-vmm $(BUILD)/kernels \
		cloud --engine interp --timeout 1800

# Every fuzz target for FUZZ_SECONDS under libFuzzer, then the oracle's long run: hours.
FUZZ_SECONDS ?= 600
fuzz:
	@tools/deps build check fuzz
	@test -f build-fuzz/build.ninja || CC=clang meson setup -Db_sanitize=address,undefined \
		-Db_lundef=false -Dfuzz=true build-fuzz
	@ninja -C build-fuzz fuzzers
	@tests/fuzz/run build-fuzz --seconds $(FUZZ_SECONDS)
	@$(MAKE) --no-print-directory all
	@ninja -C $(BUILD) fuzz-oracle

# Whole PCs with firmware: every case, minutes; the first run makes a Debian disk.
check-pc: all
	@tools/deps build run check pc
	@tests/kernels/fetch $(BUILD)/kernels cloud generic
	@KERNELS=$(BUILD)/kernels CACHE=$(BUILD)/pc tests/pc/run.py $(BUILD)/bin/insula --all

# Real guests saved, restored and forked at random instants of their work, ROUNDS times.
ROUNDS ?= 500
soak: all
	@tools/deps build run check
	@tests/state/run.py $(BUILD)/bin soak --rounds $(ROUNDS)

# insula-oci as the runtime of podman and containerd; 10,000 containers without a leak; beside crun and
# runc.  As root, some minutes.  With VALIDATION=DIR, a built clone of opencontainers/runtime-tools, its
# programs too.
VALIDATION ?=
check-containers: all
	@tools/deps check containers
	@tests/container/engines.py $(BUILD)/bin/insula-oci
	@tests/container/leak.py $(BUILD)/bin/insula-oci
	@bench/oci.py $(BUILD)/bin/insula-oci crun runc
	@test -z "$(VALIDATION)" || tests/container/validation.py $(VALIDATION) \
		$(abspath $(BUILD))/bin/insula-oci

# kill -9 of insulad, of a VMM, of the command, at random points of CRASHES operations: minutes.
CRASHES ?= 1000
check-crash: all
	@tests/daemon/crash.py $(BUILD)/bin/insula $(CRASHES)

# The KVM engine with a real Linux, under an emulated SVM: needs QEMU, takes a minute or two.
check-kvm-nested: all
	@tools/deps nested
	@tests/kernels/fetch $(BUILD)/kernels cloud generic
	@tests/nested/run $(BUILD) $(BUILD)/kernels

# The suites of others in guests, beside this machine and QEMU: an hour or more on the interpreter.
# Their sources come from Debian's packages into build/suites.
ENGINE ?= soft
STRESS_SECONDS ?= 60
SUITES = $(BUILD)/suites
check-suites: all
	@tools/deps run check suites
	@tests/suites/fetch $(SUITES) linux qemu zlib
	@bad=0; \
	tools/x86-selftests $(SUITES)/linux/tools/testing/selftests/x86 --engine $(ENGINE) \
		--json $(SUITES)/x86-selftests.json --markdown $(SUITES)/x86-selftests.md || bad=1; \
	tools/qemu-tcg-tests $(SUITES)/qemu/tests/tcg --engine $(ENGINE) --limit 1200 \
		--json $(SUITES)/qemu-tcg-tests.json --markdown $(SUITES)/qemu-tcg-tests.md || bad=1; \
	tools/stress-guest --engine $(ENGINE) --seconds $(STRESS_SECONDS) --native \
		--json $(SUITES)/stress.json --markdown $(SUITES)/stress.md || bad=1; \
	exit $$bad

# Figures beside the peer, for docs/: engine loops, kernels' start, the table of docs/benchmarks.md.
BENCH_OPTIONS ?=
bench: all
	@tools/deps run bench
	@$(BUILD)/bench/bench_interp
	@bench/firmware.py $(BUILD)
	@bench/daemon_list.py $(BUILD)/bin/insula
	@tests/kernels/run $(BUILD)/bin/insula-vmm $(BUILD)/kernels --compare
	@bench/state.py $(BUILD)/bin
	@bench/engine/run.py --build $(BUILD) $(BENCH_OPTIONS)

deps:
	@tools/deps build run check

clean:
	@rm -rf $(BUILD) build-asan build-ubsan build-fuzz

.PHONY: all run check check-unit check-e2e check-pc check-sanitize check-containers check-crash \
	check-kvm-nested check-suites fuzz soak bench install deps clean
