/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/oci/test_manifest.c - indexes, manifests, configurations; credentials
 */
#include "oci/auth.h"
#include "oci/manifest.h"
#include "test.h"

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const char manifest[] =
    "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"c\",\"digest\":\"" A "\",\"size\":7},"
    "\"layers\":[{\"digest\":\"" B "\",\"size\":9}]}";
static const char list[] =
    "{\"manifests\":["
    "{\"digest\":\"" A
    "\",\"size\":1,\"platform\":{\"os\":\"unknown\",\"architecture\":\"amd64\"}},"
    "{\"digest\":\"" A "\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\","
    "\"variant\":\"v8\"}},"
    "{\"digest\":\"" A "\",\"size\":1,\"annotations\":{\"vnd.docker.reference.type\":\"x\"}},"
    "{\"digest\":\"" B
    "\",\"size\":2,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}";

static void documents(void)
{
	struct platform host = platform_host();
	struct document d;
	struct err e = {0};

	CHECK_EQ(document_parse(manifest, strlen(manifest), &host, &d, &e), 0);
	CHECK(!d.is_index);
	CHECK_EQ(d.manifest.n_layers, 1);
	CHECK_STR(d.manifest.layers[0].digest, B);
	CHECK_EQ(d.manifest.config.size, 7);
	document_fini(&d);
	CHECK_EQ(document_parse(list, strlen(list), &host, &d, &e), 0);
	CHECK(d.is_index);
	CHECK_STR(d.chosen.digest, B);
	document_fini(&d);
	host.architecture = "arm64";
	host.variant = "v7";
	CHECK(document_parse(list, strlen(list), &host, &d, &e) < 0);
	CHECK(strstr(e.msg, "linux/arm64/v7"));
}

static void refused(const char *text)
{
	struct platform host = platform_host();
	struct document d = {0};
	struct err e = {0};

	CHECK(document_parse(text, strlen(text), &host, &d, &e) < 0);
	CHECK(e.msg[0] && !d.manifest.layers);
}

static void configurations(void)
{
	static const char text[] =
	    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=1\"],"
	    "\"Entrypoint\":null,\"Cmd\":[\"sh\",\"-c\"],\"User\":\"1:2\",\"WorkingDir\":\"/w\","
	    "\"ExposedPorts\":{\"80/tcp\":{}}},\"rootfs\":{\"diff_ids\":[\"" A "\"]}}";
	static const char bad_env[] = "{\"config\":{\"Env\":[\"A\"]},\"rootfs\":{\"diff_ids\":[]}}";
	struct image_config c;
	struct err e = {0};

	CHECK_EQ(image_config_parse(text, strlen(text), &c, &e), 0);
	CHECK_EQ(c.cmd.n, 2);
	CHECK_EQ(c.entrypoint.n, 0);
	CHECK_STR(c.user, "1:2");
	CHECK_STR(c.ports.v[0], "80/tcp");
	CHECK_STR(c.diff_ids.v[0], A);
	image_config_fini(&c);
	CHECK(image_config_parse("{}", 2, &c, &e) < 0);
	CHECK(image_config_parse(bad_env, strlen(bad_env), &c, &e) < 0);
}

static void credentials(void)
{
	/* "u:p" and "v:q" */
	static const char text[] = "{\"auths\":{\"r:5\":{\"auth\":\"dTpw\"},\"r:5/a/b\":{\"auth\":"
				   "\"djpx\"},\"x\":{\"auth\":\"!\"},"
				   "\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"}}}";
	static const struct {
		const char *host, *name, *is;
	} rows[] = {{"r:5", "z", "u:p"},
		    {"r:5", "a/b", "v:q"},
		    {"r:5", "a/b/c", "v:q"},
		    {"r:5", "a", "u:p"},
		    {"r", "a", NULL},
		    {"x", "a", NULL},
		    {"docker.io", "library/a", "u:p"}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *is = auth_parse(text, strlen(text), rows[i].host, rows[i].name);

		CHECK(!is == !rows[i].is);
		if (is)
			CHECK_STR(is, rows[i].is);
		free(is);
	}
}

int main(void)
{
	documents();
	refused("");
	refused("[]");
	refused("{}");
	refused("{\"config\":{\"digest\":\"" A "\"},\"layers\":[{\"digest\":\"../../x\"}]}");
	refused("{\"config\":{\"digest\":\"" A "\",\"size\":-1}}");
	refused("{\"config\":{\"digest\":\"" A "\",\"size\":99999999}}");
	refused("{\"config\":{\"digest\":\"" A "\"},\"layers\":[{\"digest\":\"" B
		"\",\"size\":9223372036854775807}]}");
	configurations();
	credentials();
	return 0;
}
