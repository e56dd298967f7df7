/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state.h"
#include "test.h"

struct chip {
	uint8_t mode;
	uint32_t count[3];
	uint64_t late;
	int runtime_only;
};

static const struct state_field v1_fields[] = {
    STATE_FIELD(struct chip, mode, 1),
    STATE_ARRAY(struct chip, count, 1),
};
static const struct state_field v2_fields[] = {
    STATE_FIELD(struct chip, mode, 1),
    STATE_ARRAY(struct chip, count, 1),
    STATE_FIELD(struct chip, late, 2),
};
static const struct state_table v1 = {"chip", 1, v1_fields, ARRAY_SIZE(v1_fields), NULL};
static const struct state_table v2 = {"chip", 2, v2_fields, ARRAY_SIZE(v2_fields), NULL};

struct flags {
	bool on, lines[4];
};

static const struct state_field flag_fields[] = {
    STATE_FIELD(struct flags, on, 1),
    STATE_ARRAY(struct flags, lines, 1),
};
static const struct state_table flag_table = {"flags", 1, flag_fields, 2, NULL};

/* A bool that is neither true nor false takes both ways of an if: it never gets into one. */
static void test_bool_out_of_range(void)
{
	struct flags f = {.on = true, .lines = {[2] = true}}, back = {0};
	struct strbuf s = {0};
	struct err e = {0};
	size_t used;

	state_save(&flag_table, &f, &s);
	CHECK_EQ(state_load(&flag_table, &back, s.data, s.len, &used, &e), 0);
	CHECK(back.on && !back.lines[1] && back.lines[2]);
	s.data[s.len - 2] = 2;
	CHECK(state_load(&flag_table, &back, s.data, s.len, &used, &e) < 0);
	CHECK_STR(e.msg, "flags: field 'lines' is neither true nor false");
	strbuf_fini(&s);
}

int main(void)
{
	struct chip a = {.mode = 3, .count = {1, 2, 0xdeadbeef}, .late = 9}, b = {.late = 77};
	struct strbuf s = {0};
	struct err e = {0};
	size_t used;

	/* An old record loads into a newer table; the new field keeps its reset value. */
	state_save(&v1, &a, &s);
	CHECK_EQ(state_load(&v2, &b, s.data, s.len, &used, &e), 0);
	CHECK_EQ(used, s.len);
	CHECK_EQ(b.mode, 3);
	CHECK_EQ(b.count[2], 0xdeadbeef);
	CHECK_EQ(b.late, 77);

	/* Every truncation is an error, never a read past the end. */
	for (size_t n = 0; n < s.len; n++) {
		char *cut = malloc(n ? n : 1);

		memcpy(cut, s.data, n);
		CHECK(state_load(&v1, &b, cut, n, &used, &e) < 0);
		free(cut);
	}
	strbuf_fini(&s);

	/* A record from the future is refused by name. */
	state_save(&v2, &a, &s);
	CHECK(state_load(&v1, &b, s.data, s.len, &used, &e) < 0);
	CHECK(strstr(e.msg, "version 2") != NULL);
	strbuf_fini(&s);
	test_bool_out_of_range();
	return 0;
}
