/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/store/test_store.c - machines that are kept: names, prefixes, labels, a store that is
 * opened again, newer or damaged, a writer that is killed
 */
#include "store/store.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/insula-store-XXXXXX", path[64];

static struct machine_record record(const char *name)
{
	struct machine_record m = {.name = xstrdup(name),
				   .config = xstrdup("{\"image\":\"deb:bookworm\"}"),
				   .labels = json_pack("{s:s}", "tier", "front"),
				   .created = 1700000000,
				   .restart = MACHINE_RESTART_ON_FAILURE};

	machine_uuid_make(m.uuid);
	return m;
}

static void add(struct store *s, const char *name)
{
	struct machine_record m = record(name);

	CHECK_EQ(store_machine_add(s, &m, 1, NULL), 0);
	machine_record_fini(&m);
}

static struct store *open_store(void)
{
	struct store *s = NULL;
	struct err e = {0};

	if (store_open(path, &s, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	return s;
}

static size_t count(struct store *s)
{
	struct machine_record *rows;
	size_t n;

	CHECK_EQ(store_machine_list(s, &rows, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		machine_record_fini(&rows[i]);
	free(rows);
	return n;
}

static void test_round_trip(void)
{
	struct store *s = open_store();
	struct machine_record m = record("web"), got;
	struct err e = {0};

	m.autostart = true;
	m.autostart_order = -5;
	m.watchdog = 30;
	CHECK_EQ(store_machine_add(s, &m, 1, &e), 0);
	CHECK_EQ(store_machine_add(s, &m, 1, &e), (uint64_t)-EEXIST);
	store_close(s);
	s = open_store();
	CHECK_EQ(store_machine_get(s, m.uuid, &got, &e), 0);
	CHECK_STR(got.name, "web");
	CHECK_STR(got.config, m.config);
	CHECK_STR(json_string_value(json_object_get(got.labels, "tier")), "front");
	CHECK(got.autostart && got.autostart_order == -5 && got.watchdog == 30 && !got.wanted);
	CHECK_EQ(got.restart, MACHINE_RESTART_ON_FAILURE);
	CHECK(!got.end_reason);
	CHECK_EQ(store_machine_set_wanted(s, m.uuid, true, &e), 0);
	CHECK_EQ(store_machine_set_end(s, m.uuid, "crash", 118, &e), 0);
	machine_record_fini(&got);
	CHECK_EQ(store_machine_get(s, m.uuid, &got, &e), 0);
	CHECK(got.wanted && got.end_status == 118 && got.end_time > 1700000000);
	CHECK_STR(got.end_reason, "crash");
	/* An update leaves how it ended. */
	free(got.name);
	got.name = xstrdup("web2");
	json_object_clear(got.labels);
	CHECK_EQ(store_machine_update(s, &got, &e), 0);
	machine_record_fini(&got);
	CHECK_EQ(store_machine_get(s, m.uuid, &got, &e), 0);
	CHECK_STR(got.name, "web2");
	CHECK_STR(got.end_reason, "crash");
	CHECK_EQ(json_object_size(got.labels), 0);
	CHECK_EQ(store_machine_remove(s, m.uuid, &e), 0);
	CHECK_EQ(store_machine_remove(s, m.uuid, &e), (uint64_t)-ENOENT);
	CHECK_EQ(store_machine_update(s, &got, &e), (uint64_t)-ENOENT);
	CHECK_EQ(store_machine_get(s, m.uuid, &m, NULL), (uint64_t)-ENOENT);
	CHECK_EQ(count(s), 0);
	machine_record_fini(&got);
	machine_record_fini(&m);
	store_close(s);
}

static void find(struct store *s, const char *ref, int want, const char *name)
{
	struct machine_record m = {0};
	struct err e = {0};
	int r = store_machine_find(s, ref, &m, &e);

	if (r != want)
		fprintf(stderr, "'%s': %d, %s\n", ref, r, e.msg);
	CHECK_EQ(r, want);
	if (r == 0)
		CHECK_STR(m.name, name);
	else
		CHECK(strstr(e.msg, name));
	machine_record_fini(&m);
}

static void test_names(void)
{
	struct store *s = open_store();
	struct machine_record m = record("web"), other = record("other");
	struct err e = {0};
	char prefix[9];

	add(s, "web");
	add(s, "web2");
	add(s, "db");
	CHECK_EQ(store_machine_add(s, &m, 1, &e), (uint64_t)-EEXIST);
	CHECK(strstr(e.msg, "'web'"));
	CHECK_EQ(store_machine_add(s, &other, 1, &e), 0);
	free(other.name);
	other.name = xstrdup("db");
	CHECK_EQ(store_machine_update(s, &other, &e), (uint64_t)-EEXIST);
	find(s, "web", 0, "web"); /* a whole name, though web2 begins so */
	find(s, "d", 0, "db");
	find(s, "we", -EINVAL, "web, web2");
	find(s, "%", -ENOENT, "no machine");
	find(s, "'; DROP TABLE machine; --", -ENOENT, "no machine");
	find(s, "", -EINVAL, "missing");
	snprintf(prefix, sizeof(prefix), "%.8s", other.uuid);
	find(s, prefix, 0, "other");
	find(s, other.uuid, 0, "other");
	CHECK_EQ(count(s), 4);
	machine_record_fini(&m);
	machine_record_fini(&other);
	store_close(s);
}

static void test_labels_of_many(void)
{
	struct store *s = open_store();
	struct machine_record *rows;
	size_t n;

	CHECK_EQ(store_machine_list(s, &rows, &n, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		CHECK(i == 0 || strcmp(rows[i - 1].name, rows[i].name) < 0);
		CHECK_STR(json_string_value(json_object_get(rows[i].labels, "tier")), "front");
	}
	for (size_t i = 0; i < n; i++)
		machine_record_fini(&rows[i]);
	free(rows);
	store_close(s);
}

/* What a killed writer was told is done is there, and nothing is half there. */
static void test_killed_writer(void)
{
	for (unsigned int round = 0; round < 10; round++) {
		uint32_t told = 0, before, i = 0;
		struct store *s = open_store();
		int ends[2];
		pid_t pid;

		before = (uint32_t)count(s);
		store_close(s);
		CHECK_EQ(pipe(ends), 0);
		pid = fork();
		if (pid == 0) {
			s = open_store();
			for (;; i++) {
				char name[32];

				snprintf(name, sizeof(name), "k-%u-%u", round, i);
				add(s, name);
				if (write(ends[1], &i, sizeof(i)) != sizeof(i))
					_exit(1);
			}
		}
		close(ends[1]);
		usleep(5000 + 3000 * round);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(ends[0], &i, sizeof(i)) == sizeof(i))
			told = i + 1;
		close(ends[0]);
		s = open_store();
		CHECK(count(s) >= before + told && count(s) <= before + told + 1);
		store_close(s);
		test_labels_of_many();
	}
}

static void test_other_owner(void)
{
	struct store *s = open_store(), *second = NULL;
	struct err e = {0};

	CHECK_EQ(store_open(path, &second, &e), (uint64_t)-EBUSY);
	store_close(s);
}

static void test_newer(void)
{
	struct store *s = NULL;
	struct err e = {0};
	sqlite3 *db;

	CHECK_EQ(sqlite3_open(path, &db), 0);
	CHECK_EQ(sqlite3_exec(db, "PRAGMA user_version=9999", NULL, NULL, NULL), 0);
	sqlite3_close(db);
	CHECK_EQ(store_open(path, &s, &e), (uint64_t)-ENOTSUP);
	CHECK(strstr(e.msg, "newer"));
	unlink(path);
}

static void test_damaged(void)
{
	struct store *s = NULL;
	struct err e = {0};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK_EQ(write(fd, "this is no database, but long enough to look like one?", 54), 54);
	close(fd);
	CHECK(store_open(path, &s, &e) < 0);
	CHECK(strstr(e.msg, "the store"));
	CHECK(store_open("/nosuch/dir/x", &s, &e) < 0);
}

int main(void)
{
	char command[64];

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/insula.db", dir);
	test_round_trip();
	test_names();
	test_labels_of_many();
	test_other_owner();
	test_killed_writer();
	test_newer();
	test_damaged();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	CHECK_EQ(system(command), 0);
	return 0;
}
