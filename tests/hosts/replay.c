/* Replays what `dm-log-writes` has logged, up to where the power goes.
 *
 *   replay points LOG COUNT SEED           chooses cuts; a line for each: END MARK TEAR
 *   replay apply LOG DEVICE FROM END       does what the entries FROM to END (without it) did
 *   replay tear LOG DEVICE END SEED        does some of what comes after END up to the next flush
 *
 * The log (drivers/md/dm-log-writes.c): a superblock, then for each entry a sector that describes it and the sectors that were written.
 * Writes are logged when they are complete and a flush comes, so that all before a flush is what the disk has for sure. Of what is
 * between two flushes the disk may have any part. What was written with FUA lasts, so nothing after it comes without it.
 * Marks are those of the workload: a number for each command that said that it was done.
 */
#define _FILE_OFFSET_BITS 64
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLUSH = 1, FUA = 2, DISCARD = 4, MARK = 8, SECTOR = 512 };

struct entry {
	uint64_t sector, sectors, flags, length;
	char mark[SECTOR - 32];
};

static struct { uint64_t magic, version, entries; uint32_t sector_bytes; } super;
static int log_fd;
static uint64_t seed;

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static uint64_t number(const char *text) { return strtoull(text, NULL, 10); }

/* SplitMix64 */
static uint64_t next(void) {
	uint64_t value = seed += 0x9e3779b97f4a7c15;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
	value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
	return value ^ (value >> 31);
}

static void open_log(const char *path) {
	log_fd = open(path, O_RDONLY);
	if (log_fd < 0 || pread(log_fd, &super, sizeof super, 0) != sizeof super) fail(path);
	if (super.magic != 0x6a736677736872 || super.version != 1 || super.sector_bytes != SECTOR) {
		fprintf(stderr, "%s: not a log of version 1 with sectors of 512 bytes\n", path);
		exit(1);
	}
}

/* Reads the entry at *AT and answers where its data are; *AT is then the next one. */
static off_t read_entry(off_t *at, struct entry *entry) {
	if (pread(log_fd, entry, SECTOR, *at) != SECTOR) fail("log");
	off_t data = *at + SECTOR;
	*at = data + (entry->flags & DISCARD ? 0 : (off_t)entry->sectors * SECTOR);
	return data;
}

/* A discarded sector may have its old contents. */
static void do_entry(const struct entry *entry, off_t data, int device) {
	static char buffer[1 << 20];
	if (entry->flags & (DISCARD | MARK)) return;
	uint64_t left = entry->sectors * SECTOR;
	off_t to = (off_t)entry->sector * SECTOR;
	while (left > 0) {
		size_t size = left < sizeof buffer ? left : sizeof buffer;
		if (pread(log_fd, buffer, size, data) != (ssize_t)size) fail("log");
		if (pwrite(device, buffer, size, to) != (ssize_t)size) fail("device");
		left -= size, data += size, to += size;
	}
}

/* Between the first mark and the last one. */
static void points(uint64_t count) {
	uint64_t *ends = calloc(super.entries + 1, sizeof *ends), *marks = calloc(super.entries + 1, sizeof *marks);
	uint64_t found = 0, until = 0, mark = 0;
	int begun = 0;
	off_t at = SECTOR;
	struct entry entry;
	if (!ends || !marks) fail("memory");
	for (uint64_t i = 0; i < super.entries; i++) {
		read_entry(&at, &entry);
		if (entry.flags & MARK) {
			if (strncmp(entry.mark, "done-", 5) != 0) continue; /* the kernel's own, at the end */
			entry.mark[sizeof entry.mark - 1] = 0;
			mark = number(entry.mark + 5);
			begun = 1;
			until = found + 1;
		}
		if (begun && entry.flags & (FLUSH | FUA | MARK)) {
			ends[found] = i + 1;
			marks[found++] = mark;
		}
	}
	if (until == 0) {
		fprintf(stderr, "nothing is marked in %" PRIu64 " entries\n", super.entries);
		exit(1);
	}
	fprintf(stderr, "@points %" PRIu64 " of %" PRIu64 " points in %" PRIu64 " entries\n", count, until, super.entries);
	/* Spread over all of them; every other one with a part of what comes next. */
	for (uint64_t i = 0; i < count; i++) {
		uint64_t which = (i * until + next() % until) / count;
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", ends[which], marks[which], i % 2 ? next() >> 32 | 1 : 0);
	}
}

static void apply(int device, uint64_t from, uint64_t end) {
	off_t at = SECTOR;
	struct entry entry;
	for (uint64_t i = 0; i < end && i < super.entries; i++) {
		off_t data = read_entry(&at, &entry);
		if (i >= from) do_entry(&entry, data, device);
	}
}

static void tear(int device, uint64_t end) {
	off_t at = SECTOR;
	struct entry entry;
	for (uint64_t i = 0; i < super.entries; i++) {
		off_t data = read_entry(&at, &entry);
		if (i < end) continue;
		if (entry.flags & (FLUSH | FUA | MARK)) break;
		if (next() & 1) do_entry(&entry, data, device);
	}
}

int main(int count, char **words) {
	if (count < 5) return 2;
	open_log(words[2]);
	if (strcmp(words[1], "points") == 0) {
		seed = number(words[4]);
		points(number(words[3]));
		return 0;
	}
	if (count < 6) return 2;
	int device = open(words[3], O_WRONLY);
	if (device < 0) fail(words[3]);
	if (strcmp(words[1], "apply") == 0) {
		apply(device, number(words[4]), number(words[5]));
	} else {
		seed = number(words[5]);
		tear(device, number(words[4]));
	}
	if (fsync(device) != 0) fail(words[3]);
	return 0;
}
