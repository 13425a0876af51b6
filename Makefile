# Entry points for people. Each calls a script or cargo, which may also be called by hand.
# As root, all but `fuzz` and `install` make an ordinary user and run as it.

PREFIX ?= /usr/local
DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-fleet test test-long test-faults fuzz kills testbed bench install static dist

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

demo: ## a verified stage3 becomes a builder and then a signed stage4 (STAGE3=amd64-openrc: upstream's)
	@scripts/demo

demo-fleet: ## three stage4s on a Slurm cluster of two nodes and a registry, all on this machine; a third machine then builds nothing
	@scripts/demo-fleet

test: ## every gate: format, lints, documentation, licences, tests
	@scripts/test

test-long: ## what takes longer: all end-to-end tests on each Portage of the testbed, hosts in virtual machines, kills, faults, a crowd, more fuzzing
	@scripts/test-long

test-faults: ## 250 calls of each command failing or the last one (FAULTS=250), and 510 power cuts, each followed by a normal run
	@scripts/faults

fuzz: ## everything that is read, fuzzed, FUZZ_SECS (60) seconds each
	@scripts/ensure-host test
	@scripts/fuzz

kills: ## 50 times SIGKILL in each of import, emerge, commit and export (KILLS=50), with tables
	@scripts/kills

testbed: ## make the stage3-shaped release that the tests use; prints its tarball last
	@scripts/ensure-host test
	@scripts/as-user tests/testbed/make

bench: ## functions by criterion, then whole commands beside other tools
	@scripts/bench

static: ## one file that needs no library of the machine it runs on, with musl; prints its path
	@scripts/static

dist: ## static program, sources, ebuilds and Debian package, in target/dist
	@scripts/dist

install: ## binary, man pages, completions, hooks, configuration and documents, below $(DESTDIR)$(PREFIX)
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' scripts/install
