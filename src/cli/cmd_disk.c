/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_disk.c - insula disk create, info, check, resize
 */
#include "cli/client_remote.h"
#include "cli/disk.h"
#include "cli/pool.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

/* --- options --- */

void disk_init(void *config)
{
	((struct disk_config *)config)->image.refcount_order = -1;
}

void disk_fini(void *config)
{
	struct disk_config *cfg = config;

	free(cfg->format);
	free(cfg->from);
	free(cfg->backing);
	free(cfg->backing_format);
	free(cfg->pool);
	free(cfg->copy);
}

int disk_set_json(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->json = true;
	return 0;
}

int disk_set_force(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->force = true;
	return 0;
}

static int set_repair(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->repair = true;
	return 0;
}

static int set_shrink(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->shrink = true;
	return 0;
}

int disk_set_format(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;

	free(cfg->format);
	cfg->format = xstrdup(value);
	return 0;
}

static int log2_of(const char *value, uint64_t n, unsigned int min, unsigned int max,
		   unsigned int *ret, struct err *e)
{
	for (unsigned int bits = min; bits <= max; bits++) {
		if (n == BIT(bits)) {
			*ret = bits;
			return 0;
		}
	}
	return err_msg(e, -EINVAL, "'%s' is not a power of two from %llu to %llu", value,
		       (unsigned long long)BIT(min), (unsigned long long)BIT(max));
}

int disk_set_cluster_size(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;
	uint64_t n;
	int r = cli_parse_size(value, &n, e);

	return r < 0 ? r : log2_of(value, n, 9, 21, &cfg->image.cluster_bits, e);
}

int disk_set_compression(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;

	if (strcmp(value, "zlib") != 0 && strcmp(value, "zstd") != 0)
		return err_msg(e, -EINVAL, "'%s' is neither zlib nor zstd", value);
	cfg->image.compression = strcmp(value, "zstd") == 0 ? QCOW2_ZSTD : QCOW2_ZLIB;
	return 0;
}

static int set_version(void *config, const char *value, struct err *e)
{
	if (strcmp(value, "2") != 0 && strcmp(value, "3") != 0)
		return err_msg(e, -EINVAL, "'%s' is neither 2 nor 3", value);
	((struct disk_config *)config)->image.version = (unsigned int)(value[0] - '0');
	return 0;
}

static int set_refcount_bits(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;
	unsigned int order = 0;
	uint64_t n;
	int r = cli_parse_size(value, &n, e);

	if (r == 0)
		r = log2_of(value, n, 0, 6, &order, e);
	if (r == 0)
		cfg->image.refcount_order = (int)order;
	return r;
}

static int set_lazy(void *config, const char *value, struct err *e)
{
	((struct disk_config *)config)->image.lazy_refcounts = true;
	return 0;
}

/* FILE[,format=F] */
static int set_backing(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;
	const char *comma = strrchr(value, ','), *format = NULL;

	if (comma && strncmp(comma, ",format=", 8) == 0)
		format = comma + 8;
	free(cfg->backing);
	free(cfg->backing_format);
	cfg->backing = format ? xasprintf("%.*s", (int)(comma - value), value) : xstrdup(value);
	cfg->backing_format = format ? xstrdup(format) : NULL;
	return 0;
}

static int set_pool(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;

	free(cfg->pool);
	cfg->pool = xstrdup(value);
	return 0;
}

static int set_copy(void *config, const char *value, struct err *e)
{
	struct disk_config *cfg = config;

	free(cfg->copy);
	cfg->copy = xstrdup(value);
	return 0;
}

/* --- words --- */

void disk_print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

int disk_need(const char *cmd, int argc, int n, const char *words)
{
	if (argc == n)
		return EXIT_OK;
	return ui_error(EXIT_USAGE, "insula disk %s: give %s (%d words given)", cmd, words, argc);
}

const char *disk_size_text(uint64_t bytes, char buf[32])
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	unsigned int u = 0;

	for (; v >= 1024 && u < ARRAY_SIZE(units) - 1; u++)
		v /= 1024;
	snprintf(buf, 32, v < 10 && u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return buf;
}

/* --- create --- */

static const struct cli_option create_options[] = {
    DISK_FORMAT_OPTION,
    {"backing", "FILE[,format=F]", NULL,
     "qcow2: what is not written yet is read from this disk; a relative name counts from the new "
     "file",
     set_backing},
    DISK_CLUSTER_OPTION,
    {"version", "2|3", "2 3", "qcow2: 2 for old programs (default 3)", set_version},
    {"refcount-bits", "N", NULL, "qcow2: 1 to 64 (default 16)", set_refcount_bits},
    DISK_COMPRESSION_OPTION,
    {"lazy-refcounts", NULL, NULL, "qcow2: let QEMU count references late", set_lazy},
    {"force", NULL, NULL, "replace a file that is there", disk_set_force},
    {"pool", "POOL", NULL,
     "in this storage pool of insulad: FILE is a name; with --backing, --copy", set_pool},
    {"copy", "FILE", NULL, "with --pool: a copy of this disk, sharing its blocks if it can",
     set_copy},
    DISK_JSON_OPTION,
};

static int put_path(json_t *body, const char *key, const char *path, struct err *e)
{
	autofree char *full = !path || client_is_remote() ? NULL : realpath(path, NULL);

	if (path && !full && !client_is_remote())
		return err_set(e, -errno, "%s", path);
	if (path)
		json_object_set_new(body, key, json_string(full ? full : path));
	return 0;
}

static int create_in_pool(struct disk_config *cfg, const char *name, const char *size)
{
	json_t *body = json_pack("{s:s}", "name", name), *o = NULL;
	struct err e = {0};
	uint64_t bytes;
	int r = size ? cli_parse_size(size, &bytes, &e) : 0;

	if (r == 0 && size)
		json_object_set_new(body, "size", json_integer((json_int_t)bytes));
	if (r == 0)
		r = put_path(body, "backing", cfg->backing, &e);
	if (r == 0)
		r = put_path(body, "from", cfg->copy, &e);
	if (r < 0) {
		json_decref(body);
		return ui_fail(&e, EXIT_USAGE);
	}
	r = pool_disk_create(cfg->pool, body, &o, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (cfg->json)
		disk_print_json(json_incref(o));
	else
		printf("%s\n", json_string_value(json_object_get(o, "path")));
	json_decref(o);
	return EXIT_OK;
}

static int create_run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	struct err e = {0};
	int r = 0;

	ui_init(cfg->json, false);
	if (cfg->pool && (argc == 1 || argc == 2))
		return create_in_pool(cfg, argv[0], argv[1]);
	if (cfg->copy)
		return ui_error(
		    EXIT_USAGE,
		    "insula disk create --copy: is for --pool; `insula disk convert` copies");
	if (argc < 1 || argc > 2 || (argc == 1 && !cfg->backing))
		return ui_error(EXIT_USAGE, "insula disk create: give a file and a size");
	cfg->image.backing = cfg->backing;
	cfg->image.backing_format = cfg->backing_format;
	if (argc == 2 && cli_parse_size(argv[1], &cfg->image.size, &e) < 0)
		return ui_fail(&e, EXIT_USAGE);
	r = disk_create(argv[0], cfg->format, &cfg->image, cfg->force, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (cfg->json)
		disk_print_json(json_pack("{s:s, s:s}", "path", argv[0], "format",
					  disk_format(argv[0], cfg->format)));
	return EXIT_OK;
}

const struct cli_command cmd_disk_create = {
    .name = "disk create",
    .usage = "FILE [SIZE]",
    .summary = "Make an empty disk image.",
    .more = "With --backing the size is that disk's if none is given.",
    .options = create_options,
    .n_options = ARRAY_SIZE(create_options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = create_run,
};

/* --- info --- */

static const struct cli_option info_options[] = {DISK_FORMAT_OPTION, DISK_JSON_OPTION};

static int add_snapshots(struct blk *b, json_t *o)
{
	struct qcow2_snapshot s;
	json_t *list = json_array();

	for (uint32_t i = 0; qcow2_snapshot_get(b, i, &s) == 0; i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:I, s:I, s:I}", "id", s.id, "name", s.name, "date",
				    (json_int_t)s.date, "disk_size", (json_int_t)s.disk_size,
				    "vm_state_size", (json_int_t)s.vm_state_size));
	return json_object_set_new(o, "snapshots", list);
}

static int add_bitmaps(struct blk *b, uint32_t n, json_t *o, struct err *e)
{
	json_t *list = json_array();
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < n; i++) {
		struct qcow2_bitmap m;

		r = qcow2_bitmap_get(b, i, &m, e);
		if (r < 0)
			break;
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:b, s:b}", "name", m.name,
						      "granularity", (json_int_t)m.granularity,
						      "dirty", (json_int_t)m.dirty, "automatic",
						      m.automatic, "in_use", m.in_use));
		free(m.name);
	}
	json_object_set_new(o, "bitmaps", list);
	return r;
}

static int add_qcow2(struct blk *b, json_t *o, struct err *e)
{
	struct qcow2_info i;

	qcow2_get_info(b, &i);
	json_object_set_new(o, "version", json_integer(i.version));
	json_object_set_new(o, "cluster_size", json_integer((json_int_t)1 << i.cluster_bits));
	json_object_set_new(o, "refcount_bits", json_integer(i.refcount_bits));
	json_object_set_new(o, "compression",
			    json_string(i.compression == QCOW2_ZSTD ? "zstd" : "zlib"));
	json_object_set_new(o, "lazy_refcounts", json_boolean(i.lazy_refcounts));
	json_object_set_new(o, "dirty", json_boolean(i.dirty));
	json_object_set_new(o, "corrupt", json_boolean(i.corrupt));
	if (i.backing)
		json_object_set_new(o, "backing", json_string(i.backing));
	if (i.backing_format)
		json_object_set_new(o, "backing_format", json_string(i.backing_format));
	add_snapshots(b, o);
	return add_bitmaps(b, i.n_bitmaps, o, e);
}

/* Names may hold anything; those that are no UTF-8 have no place in JSON. */
static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "?";
}

static void print_lists(const json_t *o)
{
	char size[32];
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(o, "snapshots"), i, v)
	{
		time_t t = (time_t)json_integer_value(json_object_get(v, "date"));
		char when[32];
		struct tm tm;

		localtime_r(&t, &tm);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
		printf("snapshot:     %s (%s, %s)\n", text_of(v, "name"), text_of(v, "id"), when);
	}
	json_array_foreach(json_object_get(o, "bitmaps"), i, v)
	{
		uint64_t dirty = (uint64_t)json_integer_value(json_object_get(v, "dirty"));
		bool in_use = json_is_true(json_object_get(v, "in_use"));

		printf("bitmap:       %s, %s marked%s\n", text_of(v, "name"),
		       disk_size_text(dirty, size), in_use ? ", not up to date" : "");
	}
}

static void print_info(const json_t *o)
{
	uint64_t size = (uint64_t)json_integer_value(json_object_get(o, "size"));
	uint64_t used = (uint64_t)json_integer_value(json_object_get(o, "allocated"));
	json_t *version = json_object_get(o, "version");
	char text[32];

	printf("%s\n", text_of(o, "path"));
	printf("format:       %s", text_of(o, "format"));
	if (version)
		printf(", version %lld, clusters of %lld, %s, refcounts of %lld bits",
		       json_integer_value(version),
		       json_integer_value(json_object_get(o, "cluster_size")),
		       text_of(o, "compression"),
		       json_integer_value(json_object_get(o, "refcount_bits")));
	printf("\nsize:         %s (%llu bytes)\n", disk_size_text(size, text),
	       (unsigned long long)size);
	printf("on the host:  %s\n", disk_size_text(used, text));
	if (json_object_get(o, "backing"))
		printf("backing file: %s (%s)\n", text_of(o, "backing"),
		       text_of(o, "backing_format"));
	if (json_is_true(json_object_get(o, "dirty")))
		printf("not closed:   refcounts are counted anew when it is opened for writing\n");
	if (json_is_true(json_object_get(o, "corrupt")))
		printf("damaged:      `insula disk check --repair` may help\n");
	print_lists(o);
}

static int info_run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	struct err e = {0};
	struct disk d;
	json_t *o;
	int r;

	ui_init(cfg->json, false);
	if (disk_need("info", argc, 1, "one file") != EXIT_OK)
		return EXIT_USAGE;
	r = disk_open(argv[0], cfg->format, DISK_READ_ONLY | DISK_NO_BACKING, &d, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	o = json_pack("{s:s, s:s, s:I, s:I}", "path", argv[0], "format",
		      disk_format(argv[0], cfg->format), "size", (json_int_t)blk_info(d.blk)->size,
		      "allocated", (json_int_t)disk_allocated(argv[0]));
	if (blk_is_qcow2(d.blk))
		r = add_qcow2(d.blk, o, &e);
	if (r == 0 && cfg->json)
		disk_print_json(json_incref(o));
	else if (r == 0)
		print_info(o);
	json_decref(o);
	disk_close(&d);
	return r < 0 ? ui_fail(&e, EXIT_BAD_DISK) : EXIT_OK;
}

const struct cli_command cmd_disk_info = {
    .name = "disk info",
    .usage = "FILE",
    .summary = "Show what a disk image is.",
    .more = "Opens no backing file.",
    .options = info_options,
    .n_options = ARRAY_SIZE(info_options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = info_run,
};

/* --- check --- */

static const struct cli_option check_options[] = {
    {"repair", NULL, NULL, "count references anew and free what leaked", set_repair},
    DISK_FORMAT_OPTION,
    DISK_JSON_OPTION,
};

static void print_check(const struct qcow2_check *c)
{
	if (!c->corruptions && !c->leaks && !c->flags)
		printf("No errors.");
	else
		printf("%llu corruptions, %llu leaked clusters, %llu needless copies; first: %s.",
		       (unsigned long long)c->corruptions, (unsigned long long)c->leaks,
		       (unsigned long long)c->flags, c->first);
	printf(" %llu of %llu clusters in use, %llu compressed.\n",
	       (unsigned long long)c->allocated, (unsigned long long)c->clusters,
	       (unsigned long long)c->packed);
	if (c->repaired)
		printf("%llu repaired.\n", (unsigned long long)c->repaired);
}

static int check_run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	unsigned int flags = DISK_NO_BACKING | (cfg->repair ? DISK_REPAIR : DISK_READ_ONLY);
	struct qcow2_check c = {0};
	struct err e = {0};
	struct disk d;
	bool bad;
	int r;

	ui_init(cfg->json, false);
	if (disk_need("check", argc, 1, "one file") != EXIT_OK)
		return EXIT_USAGE;
	r = disk_open(argv[0], cfg->format, flags, &d, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (blk_is_qcow2(d.blk))
		r = qcow2_check(d.blk, cfg->repair, &c, &e);
	disk_close(&d);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	bad = c.corruptions && (!c.repaired || c.repaired < c.corruptions + c.leaks + c.flags);
	if (cfg->json)
		disk_print_json(json_pack(
		    "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "path", argv[0], "corruptions",
		    (json_int_t)c.corruptions, "leaks", (json_int_t)c.leaks, "flags",
		    (json_int_t)c.flags, "repaired", (json_int_t)c.repaired, "clusters",
		    (json_int_t)c.clusters, "allocated", (json_int_t)c.allocated, "compressed",
		    (json_int_t)c.packed, "first", c.first));
	else
		print_check(&c);
	return bad ? EXIT_BAD_DISK : EXIT_OK;
}

const struct cli_command cmd_disk_check = {
    .name = "disk check",
    .usage = "FILE",
    .summary = "Look for errors in a qcow2 image.",
    .more = "Leaked clusters cost space only; the status is 114 for corruptions that are not "
	    "repaired.",
    .options = check_options,
    .n_options = ARRAY_SIZE(check_options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = check_run,
};

/* --- resize --- */

static const struct cli_option resize_options[] = {
    {"shrink", NULL, NULL, "allow a smaller size; there may be no data behind the new end",
     set_shrink},
    DISK_FORMAT_OPTION,
    DISK_JSON_OPTION,
};

/* "10G", or "+1G": that much more. */
static int new_size(const char *path, const char *format, const char *text, uint64_t *ret,
		    struct err *e)
{
	struct disk d;
	int r = cli_parse_size(text + (text[0] == '+'), ret, e);

	if (r < 0)
		return err_exit(e, r, EXIT_USAGE);
	if (text[0] != '+')
		return 0;
	r = disk_open(path, format, DISK_READ_ONLY | DISK_NO_BACKING, &d, e);
	if (r < 0)
		return r;
	*ret = *ret > INT64_MAX ? UINT64_MAX : *ret + blk_info(d.blk)->size;
	disk_close(&d);
	return 0;
}

static int resize_run(void *config, int argc, char **argv, char **command)
{
	struct disk_config *cfg = config;
	struct err e = {0};
	uint64_t size;
	int r;

	ui_init(cfg->json, false);
	if (disk_need("resize", argc, 2, "a file and a size") != EXIT_OK)
		return EXIT_USAGE;
	r = new_size(argv[0], cfg->format, argv[1], &size, &e);
	if (r == 0)
		r = disk_resize(argv[0], cfg->format, size, cfg->shrink, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_BAD_DISK);
	if (cfg->json)
		disk_print_json(json_pack("{s:s, s:I}", "path", argv[0], "size", (json_int_t)size));
	return EXIT_OK;
}

const struct cli_command cmd_disk_resize = {
    .name = "disk resize",
    .usage = "FILE [+]SIZE",
    .summary = "Make a disk larger or smaller.",
    .more = "The file system on it stays as it is.",
    .options = resize_options,
    .n_options = ARRAY_SIZE(resize_options),
    .config_size = sizeof(struct disk_config),
    .init = disk_init,
    .fini = disk_fini,
    .run = resize_run,
};
