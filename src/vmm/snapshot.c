/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/snapshot.c - a saved machine in one file
 */
#include "vmm/snapshot_priv.h"

#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/random.h>
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
	struct snapshot *parent; /* NULL = none, or not found yet */
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

/* One region from @*off on, which becomes its end; *@at says where it is. */
static int write_whole(int fd, const struct snapshot_source *src, const struct machine_region *r,
		       uint64_t *off, uint64_t *at)
{
	*at = *off;
	if (src->packed)
		return snapshot_pack(fd, r, NULL, off, at);
	*off += r->size;
	return write_region(fd, r, *at);
}

/* The same of what differs from @parent's; *@map_at: where the map of its pages is. */
static int write_delta(int fd, const struct snapshot_source *src, const struct machine_region *r,
		       const uint8_t *parent, uint64_t *off, uint64_t *at, uint64_t *map_at)
{
	autofree uint8_t *map = delta_compare(r, parent);
	int ret = map ? 0 : -ENOMEM;

	*map_at = ALIGN_UP(*off, (uint64_t)PAGE);
	*off = *at = *map_at + delta_map_room(r);
	if (ret == 0 && src->packed) {
		ret = snapshot_pack(fd, r, map, off, at);
	} else if (ret == 0) {
		*off += r->size;
		ret = delta_write(fd, r, map, *at);
	}
	return ret < 0 ? ret : delta_write_map(fd, r, map, *map_at);
}

/* Writes all memory from @off on, which becomes its end; @list says where what is.  @views is the
 * parent's memory; NULL = none. */
static int write_memory(int fd, const struct snapshot_source *src,
			const struct machine_region *views, uint64_t *off, json_t *list)
{
	int ret = 0;

	for (unsigned int i = 0; i < src->n_regions && ret == 0; i++) {
		const struct machine_region *r = &src->regions[i];
		bool delta = views && r->pages;
		uint64_t at = 0, map_at = 0;
		json_t *o;

		ret = delta ? write_delta(fd, src, r, views[i].data, off, &at, &map_at)
			    : write_whole(fd, src, r, off, &at);
		o = json_pack("{ss sI sI sb}", "name", r->name, "size", (json_int_t)r->size,
			      "offset", (json_int_t)at, "packed", src->packed);
		if (delta)
			json_object_set_new(o, "map", json_integer((json_int_t)map_at));
		json_array_append_new(list, o);
	}
	return ret;
}

/* The parent's memory, read to compare with. */
static int open_views(const struct snapshot_source *src, struct machine_region *views,
		      struct err *e)
{
	for (unsigned int i = 0; i < src->n_regions; i++) {
		views[i] = src->regions[i];
		views[i].data = mmap(NULL, views[i].size, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (views[i].data == MAP_FAILED) {
			int r = err_set(e, -errno, "memory of the parent");

			while (i-- > 0)
				munmap(views[i].data, views[i].size);
			return r;
		}
	}
	return snapshot_map(src->parent, views, src->n_regions, true, e);
}

static void put_identity(const struct snapshot_source *src)
{
	uint64_t id[2] = {0};
	autofree char *text = NULL;

	(void)!getrandom(id, sizeof(id), 0);
	text = xasprintf("%016" PRIx64 "%016" PRIx64, id[0], id[1]);
	json_object_set_new(src->manifest, "id", json_string(text));
	if (src->parent)
		json_object_set_new(src->manifest, "parent",
				    json_pack("{ss sO}", "file", src->parent_name, "id",
					      json_object_get(src->parent->manifest, "id")));
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
	struct machine_region views[MACHINE_REGIONS_MAX];
	autofree char *manifest = NULL;
	json_t *list = json_array();
	uint64_t end;
	int r = src->parent ? open_views(src, views, e) : 0;

	if (r < 0) {
		json_decref(list);
		return r;
	}
	put_identity(src);
	end = memory_offset(src);
	r = write_memory(fd, src, src->parent ? views : NULL, &end, list);
	for (unsigned int i = 0; i < src->n_regions && src->parent; i++)
		munmap(views[i].data, views[i].size);
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
	snapshot_free(s->parent);
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

/* Empty memory: there may be something already, such as firmware's image. */
static int clear(const struct machine_region *r, struct err *e)
{
	if (!r->pages) {
		memset(r->data, 0, r->size);
		return 0;
	}
	if (mmap(r->data, r->size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		return err_set(e, -errno, "memory '%s'", r->name);
	(void)madvise(r->data, r->size, MADV_HUGEPAGE);
	return 0;
}

static int place_packed(const struct snapshot *s, const struct machine_region *r, uint64_t table,
			struct err *e)
{
	int ret = clear(r, e);

	if (ret < 0)
		return ret;
	ret = snapshot_unpack(s->fd, r, NULL, table, s->size);
	return ret < 0 ? err_msg(e, -EINVAL, "%s: packed memory '%s' is damaged", s->name, r->name)
		       : 0;
}

/* Over the parent's. */
static int place_delta(const struct snapshot *s, const struct machine_region *r, const json_t *o,
		       struct err *e)
{
	uint64_t map_at = (uint64_t)json_integer_value(json_object_get(o, "map"));
	uint64_t off = (uint64_t)json_integer_value(json_object_get(o, "offset"));
	autofree uint8_t *map = NULL;
	int ret = s->parent ? delta_read_map(s->fd, r, map_at, s->size, &map) : -EINVAL;

	if (ret == 0 && json_is_true(json_object_get(o, "packed")))
		ret = snapshot_unpack(s->fd, r, map, off, s->size);
	else if (ret == 0)
		ret = delta_read(s->fd, r, map, off, s->size);
	return ret < 0 ? err_msg(e, -EINVAL, "%s: the changes of memory '%s' are damaged", s->name,
				 r->name)
		       : 0;
}

/* What the file has of [@off, @off + size), which is mostly holes. */
static int read_region(const struct snapshot *s, const struct machine_region *r, uint64_t off)
{
	off_t at = (off_t)off, end = (off_t)(off + r->size);

	while (at < end) {
		off_t data = lseek(s->fd, at, SEEK_DATA), hole;
		int ret;

		if (data < 0 || data >= end)
			return data < 0 && errno != ENXIO ? -errno : 0;
		hole = lseek(s->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		hole = MIN(hole, end);
		ret = pread_full(s->fd, r->data + ((uint64_t)data - off), (size_t)(hole - data),
				 (uint64_t)data);
		if (ret < 0)
			return ret;
		at = hole;
	}
	return 0;
}

static int place_region(const struct snapshot *s, const struct machine_region *r, const json_t *o,
			bool copy, struct err *e)
{
	uint64_t off = (uint64_t)json_integer_value(json_object_get(o, "offset"));
	int ret;

	if (json_object_get(o, "map"))
		return place_delta(s, r, o, e);
	if (json_is_true(json_object_get(o, "packed")))
		return place_packed(s, r, off, e);
	if (off < PAGE || off % PAGE || !range_ok(off, r->size, s->size))
		return err_msg(e, -EINVAL, "%s: memory '%s' lies outside of the file", s->name,
			       r->name);
	if (copy || !r->pages) {
		ret = clear(r, e);
		if (ret == 0)
			ret = read_region(s, r, off);
		return ret < 0 ? err_set(e, ret, "read %s", s->name) : 0;
	}
	if (mmap(r->data, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
		 s->fd, (off_t)off) == MAP_FAILED)
		return err_set(e, -errno, "map %s", s->name);
	return 0;
}

int snapshot_map(const struct snapshot *s, const struct machine_region *regions, unsigned int n,
		 bool copy, struct err *e)
{
	int r = s->parent ? snapshot_map(s->parent, regions, n, copy, e) : 0;

	if (r == 0 && json_array_size(json_object_get(s->manifest, "regions")) != n)
		return err_msg(e, -EINVAL, "%s is of a machine with other memory", s->name);
	for (unsigned int i = 0; i < n && r == 0; i++) {
		const json_t *o = find_region(s, &regions[i], e);

		r = o ? place_region(s, &regions[i], o, copy, e) : -EINVAL;
	}
	return r;
}

/* --- parents --- */

const char *snapshot_parent_name(const struct snapshot *s)
{
	return json_string_value(json_object_get(json_object_get(s->manifest, "parent"), "file"));
}

int snapshot_set_parent(struct snapshot *s, struct snapshot *parent, struct err *e)
{
	const json_t *want = json_object_get(json_object_get(s->manifest, "parent"), "id");
	const json_t *have = json_object_get(parent->manifest, "id");

	if (!json_is_string(want) || !json_equal((json_t *)want, (json_t *)have))
		return err_msg(e, -EINVAL, "%s was not made over %s", s->name, parent->name);
	s->parent = parent;
	return 0;
}

void snapshot_each_fd(const struct snapshot *s, void (*fn)(void *opaque, int fd), void *opaque)
{
	for (; s; s = s->parent)
		fn(opaque, s->fd);
}
