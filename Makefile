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
	@$(MAKE) --no-print-directory all
	@$(BUILD)/bin/insula run deb:bookworm

check:
	@tools/deps build run check
	@$(MAKE) --no-print-directory all
	@tools/check-layers
	@meson test -C $(BUILD) --print-errorlogs

install: all
	@meson configure --prefix=$(PREFIX) $(BUILD)
	@meson install -C $(BUILD) $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

# Unit tests alone, and real guests alone.
check-unit check-e2e: check-%: all
	@meson test -C $(BUILD) --print-errorlogs --suite $*

deps:
	@tools/deps build run check

clean:
	@rm -rf $(BUILD)

.PHONY: all run check check-unit check-e2e install deps clean
