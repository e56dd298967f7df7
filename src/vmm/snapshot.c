/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot.c - a saved machine in one file
 */
#include "vmm/snapshot_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <zlib.h>

#define PAGE     SNAPSHOT_PAGE
#define META_OFF PAGE

static const char magic[8] = "INSULA\x01s";

/* Field, offset in the header. */
enum { H_VERSION = 8, H_META_LEN = 16, H_STATE_LEN = 24, H_META_CRC = 32, H_CRC = 36, H_SIZE = 40 };

struct snapshot {
	char *name;
	int fd;
	uint64_t size; /* of the file */
	json_t *manifest;
	uint8_t *meta; /* manifest's text, then state */
	size_t manifest_len, state_len;
};

static uint32_t checksum(const void *data, size_t len)
{
	return (uint32_t)crc32_z(0, data, len);
}

/* --- writing --- */

bool snapshot_is_zero(const uint8_t *p)
{
	const uint64_t *w = (const uint64_t *)(const void *)p;
	uint64_t any = 0;

	for (unsigned int i = 0; i < PAGE / 8; i += 8) {
		for (unsigned int k = 0; k < 8; k++)
			any |= w[i + k];
		if (any)
			return false;
	}
	return true;
}

/* Runs of pages that hold something; the rest stays a hole. */
static int write_region(int fd, const struct machine_region *r, uint64_t off)
{
	uint64_t at = 0, run;
	int ret = 0;

	while (at < r->size && ret == 0) {
		if (snapshot_is_zero(r->data + at)) {
			at += PAGE;
			continue;
		}
		run = at;
		while (at < r->size && at - run < (8u << 20) && !snapshot_is_zero(r->data + at))
			at += PAGE;
		ret = pwrite_full(fd, r->data + run, at - run, off + run);
	}
	return ret;
}

/* Where memory may begin: behind the manifest, whose numbers are not known yet, and the state. */
static uint64_t memory_offset(const struct snapshot_source *src)
{
	char *text = json_dumps(src->manifest, JSON_COMPACT);
	size_t room = (text ? strlen(text) : 0) + 160u * (src->n_regions + 1) + src->state_len;

	free(text);
	return ALIGN_UP(META_OFF + (uint64_t)room, UINT64_C(65536));
}

/* Writes all memory from @off on, which becomes its end; @list says where what is. */
static int write_memory(int fd, const struct snapshot_source *src, uint64_t *off, json_t *list)
{
	int ret = 0;

	for (unsigned int i = 0; i < src->n_regions && ret == 0; i++) {
		const struct machine_region *r = &src->regions[i];
		uint64_t at = *off;

		if (src->packed) {
			ret = snapshot_pack(fd, r, off, &at);
		} else {
			ret = write_region(fd, r, at);
			*off += r->size;
		}
		json_array_append_new(list, json_pack("{ss sI sI sb}", "name", r->name, "size",
						      (json_int_t)r->size, "offset", (json_int_t)at,
						      "packed", src->packed));
	}
	return ret;
}

static int write_head(int fd, const struct snapshot_source *src, const char *manifest)
{
	size_t len = strlen(manifest);
	uint8_t h[H_SIZE] = {0};
	uint32_t crc = (uint32_t)crc32_z(checksum(manifest, len), src->state, src->state_len);
	int r;

	memcpy(h, magic, sizeof(magic));
	store_le32(h + H_VERSION, SNAPSHOT_VERSION);
	store_le64(h + H_META_LEN, len);
	store_le64(h + H_STATE_LEN, src->state_len);
	store_le32(h + H_META_CRC, crc);
	store_le32(h + H_CRC, checksum(h, H_CRC));
	r = pwrite_full(fd, manifest, len, META_OFF);
	if (r == 0)
		r = pwrite_full(fd, src->state, src->state_len, META_OFF + len);
	return r < 0 ? r : pwrite_full(fd, h, sizeof(h), 0);
}

int snapshot_write(int fd, const struct snapshot_source *src, struct err *e)
{
	uint64_t end = memory_offset(src);
	autofree char *manifest = NULL;
	json_t *list = json_array();
	int r = write_memory(fd, src, &end, list);

	json_object_set_new(src->manifest, "version", json_integer(SNAPSHOT_VERSION));
	json_object_set_new(src->manifest, "regions", list);
	manifest = json_dumps(src->manifest, JSON_COMPACT);
	if (!manifest)
		return err_set(e, -ENOMEM, "snapshot");
	/* The end may be a hole, too. */
	if (r == 0 && ftruncate(fd, (off_t)end) < 0)
		r = -errno;
	if (r == 0)
		r = write_head(fd, src, manifest);
	return r < 0 ? err_set(e, r, "write the snapshot") : 0;
}

/* --- reading --- */

static int read_head(struct snapshot *s, uint32_t *meta_crc, struct err *e)
{
	uint64_t manifest_len, state_len;
	uint8_t h[H_SIZE];

	if (pread_full(s->fd, h, sizeof(h), 0) < 0 || memcmp(h, magic, sizeof(magic)) != 0)
		return err_msg(e, -EINVAL, "%s is not a snapshot, or one that was cut short",
			       s->name);
	if (load_le32(h + H_CRC) != checksum(h, H_CRC))
		return err_msg(e, -EINVAL, "%s: the header's checksum is wrong", s->name);
	if (load_le32(h + H_VERSION) != SNAPSHOT_VERSION)
		return err_msg(e, -EINVAL, "%s: version %u, this program knows %u", s->name,
			       load_le32(h + H_VERSION), SNAPSHOT_VERSION);
	manifest_len = load_le64(h + H_META_LEN);
	state_len = load_le64(h + H_STATE_LEN);
	if (manifest_len > SNAPSHOT_META_MAX || state_len > SNAPSHOT_META_MAX)
		return err_msg(e, -EINVAL, "%s: %" PRIu64 " bytes of state are too many", s->name,
			       manifest_len + state_len);
	s->manifest_len = (size_t)manifest_len;
	s->state_len = (size_t)state_len;
	*meta_crc = load_le32(h + H_META_CRC);
	return 0;
}

static int read_meta(struct snapshot *s, uint32_t crc, struct err *e)
{
	size_t len = s->manifest_len + s->state_len;
	json_error_t je;

	if (len > s->size)
		return err_msg(e, -EINVAL, "%s was cut short", s->name);
	s->meta = malloc(len + 1);
	if (!s->meta)
		return err_set(e, -ENOMEM, "%s", s->name);
	if (pread_full(s->fd, s->meta, len, META_OFF) < 0)
		return err_msg(e, -EINVAL, "%s was cut short", s->name);
	if (checksum(s->meta, len) != crc)
		return err_msg(e, -EINVAL, "%s: the checksum of its state is wrong", s->name);
	s->manifest =
	    json_loadb((const char *)s->meta, s->manifest_len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(s->manifest) ||
	    json_integer_value(json_object_get(s->manifest, "version")) != SNAPSHOT_VERSION ||
	    !json_is_array(json_object_get(s->manifest, "regions")))
		return err_msg(e, -EINVAL, "%s: its manifest is damaged", s->name);
	return 0;
}

int snapshot_open(int fd, const char *name, struct snapshot **ret, struct err *e)
{
	struct snapshot *s = xnew(struct snapshot);
	struct stat st;
	uint32_t crc = 0;
	int r;

	s->name = xstrdup(name);
	s->fd = fd;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		r = err_msg(e, -EINVAL, "%s is not a regular file", name);
	else
		r = read_head(s, &crc, e);
	if (r == 0) {
		s->size = (uint64_t)st.st_size;
		r = read_meta(s, crc, e);
	}
	if (r < 0) {
		s->fd = -1;
		snapshot_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void snapshot_free(struct snapshot *s)
{
	if (!s)
		return;
	close_p(&s->fd);
	json_decref(s->manifest);
	free(s->meta);
	free(s->name);
	free(s);
}

const json_t *snapshot_manifest(const struct snapshot *s)
{
	return s->manifest;
}

const void *snapshot_state(const struct snapshot *s, size_t *len)
{
	*len = s->state_len;
	return s->meta + s->manifest_len;
}

static const json_t *find_region(const struct snapshot *s, const struct machine_region *r,
				 struct err *e)
{
	const json_t *list = json_object_get(s->manifest, "regions"), *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		const char *name = json_string_value(json_object_get(o, "name"));
		json_int_t size = json_integer_value(json_object_get(o, "size"));

		if (!name || strcmp(name, r->name) != 0)
			continue;
		if (size >= 0 && (uint64_t)size == r->size)
			return o;
		err_msg(e, -EINVAL, "%s: memory '%s' is of %" PRId64 " bytes, not %" PRIu64,
			s->name, r->name, (int64_t)size, r->size);
		return NULL;
	}
	err_msg(e, -EINVAL, "%s: memory '%s' is not in it", s->name, r->name);
	return NULL;
}

static int place_packed(const struct snapshot *s, const struct machine_region *r, uint64_t table,
			struct err *e)
{
	int ret;

	/* There may be something already: firmware's image. */
	if (r->pages &&
	    mmap(r->data, r->size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return err_set(e, -errno, "memory '%s'", r->name);
	if (r->pages)
		(void)madvise(r->data, r->size, MADV_HUGEPAGE);
	else
		memset(r->data, 0, r->size);
	ret = snapshot_unpack(s->fd, r, table, s->size);
	return ret < 0 ? err_msg(e, -EINVAL, "%s: packed memory '%s' is damaged", s->name, r->name)
		       : 0;
}

static int place_region(const struct snapshot *s, const struct machine_region *r, const json_t *o,
			struct err *e)
{
	uint64_t off = (uint64_t)json_integer_value(json_object_get(o, "offset"));
	int ret;

	if (json_is_true(json_object_get(o, "packed")))
		return place_packed(s, r, off, e);
	if (off < PAGE || off % PAGE || !range_ok(off, r->size, s->size))
		return err_msg(e, -EINVAL, "%s: memory '%s' lies outside of the file", s->name,
			       r->name);
	if (!r->pages) {
		ret = pread_full(s->fd, r->data, r->size, off);
		return ret < 0 ? err_set(e, ret, "read %s", s->name) : 0;
	}
	if (mmap(r->data, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 s->fd, (off_t)off) == MAP_FAILED)
		return err_set(e, -errno, "map %s", s->name);
	return 0;
}

int snapshot_map(const struct snapshot *s, const struct machine_region *regions, unsigned int n,
		 struct err *e)
{
	if (json_array_size(json_object_get(s->manifest, "regions")) != n)
		return err_msg(e, -EINVAL, "%s is of a machine with other memory", s->name);
	for (unsigned int i = 0; i < n; i++) {
		const json_t *o = find_region(s, &regions[i], e);
		int r = o ? place_region(s, &regions[i], o, e) : -EINVAL;

		if (r < 0)
			return r;
	}
	return 0;
}
