/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/token.c - tokens: made, listed, revoked, and known again
 *
 * They are in memory, too: a request is let in by the loop's thread, which may not wait for a disk.
 */
#include "daemon/token.h"

#include "daemon/daemon_priv.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#define SECRET_BYTES 32
#define PREFIX       "insula_"
#define YEARS_MAX    (INT64_C(100) * 366 * 86400)

_Static_assert(sizeof(((struct token_record *)0)->hash) == SHA256_DIGEST_SIZE, "a SHA-256");

static void hash_of(const char *text, uint8_t hash[SHA256_DIGEST_SIZE])
{
	struct sha256_ctx c;

	sha256_init(&c);
	sha256_update(&c, strlen(text), (const uint8_t *)text);
	sha256_digest(&c, SHA256_DIGEST_SIZE, hash);
}

static bool is_expired(const struct token_record *t)
{
	return t->expires && t->expires <= (int64_t)time(NULL);
}

/* --- in memory --- */

static void forget(struct daemon *d)
{
	while (d->n_tokens)
		token_record_fini(&d->tokens[--d->n_tokens]);
	free(d->tokens);
	d->tokens = NULL;
}

int tokens_load(struct daemon *d, struct err *e)
{
	struct token_record *rows = NULL;
	size_t n = 0;
	int r = store_token_list(d->store, &rows, &n, e);

	if (r < 0)
		return r;
	pthread_mutex_lock(&d->lock);
	forget(d);
	d->tokens = rows;
	d->n_tokens = n;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

void tokens_free(struct daemon *d)
{
	forget(d);
}

int token_role(struct daemon *d, const char *authorization, enum role *ret, struct err *e)
{
	uint8_t hash[SHA256_DIGEST_SIZE];
	int r = -EACCES;

	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
		return err_msg(e, r, "a token is needed: Authorization: Bearer TOKEN");
	authorization += 7;
	while (*authorization == ' ')
		authorization++;
	hash_of(authorization, hash);
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->n_tokens; i++) {
		const struct token_record *t = &d->tokens[i];

		/* Of hashes; how far they agree tells nothing about the token. */
		if (memcmp(t->hash, hash, sizeof(hash)) != 0 || is_expired(t))
			continue;
		*ret = (enum role)t->role;
		r = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? err_msg(e, r, "the token is not known, or has expired") : 0;
}

/* --- operations --- */

static int parse_role(const char *word, int64_t *ret, struct err *e)
{
	for (int i = 0; role_names[i]; i++) {
		if (strcmp(role_names[i], word) == 0) {
			*ret = i;
			return 0;
		}
	}
	return err_msg(e, -EINVAL, "role: '%.32s' is not viewer, operator or admin", word);
}

static json_t *format_token(const struct token_record *t)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:b}", "name", t->name, "role", role_names[t->role],
			      "created", (json_int_t)t->created, "expired", is_expired(t));

	if (t->expires)
		json_object_set_new(o, "expires", json_integer((json_int_t)t->expires));
	return o;
}

static void make_secret(char ret[sizeof(PREFIX) + 2 * SECRET_BYTES])
{
	uint8_t raw[SECRET_BYTES];
	size_t n = strlen(PREFIX);

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		abort();
	memcpy(ret, PREFIX, n);
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(ret + n + 2 * i, 3, "%02x", raw[i]);
}

int op_token_create(struct op_call *c, struct err *e)
{
	struct token_record t = {.created = (int64_t)time(NULL)};
	const char *name = op_string(c, "name"), *role = op_string(c, "role");
	int64_t seconds = op_int(c, "expires_in", 0);
	char secret[sizeof(PREFIX) + 2 * SECRET_BYTES];
	int r = machine_name_check(name, e);

	if (r == 0)
		r = parse_role(role, &t.role, e);
	if (r == 0 && (seconds < 0 || seconds > YEARS_MAX))
		r = err_msg(e, -EINVAL, "expires_in: %lld is no number of seconds from now",
			    (long long)seconds);
	if (r < 0)
		return r;
	t.name = xstrdup(name);
	t.expires = seconds ? t.created + seconds : 0;
	make_secret(secret);
	hash_of(secret, t.hash);
	r = store_token_add(c->d->store, &t, e);
	if (r == 0)
		r = tokens_load(c->d, e);
	if (r == 0) {
		c->result = format_token(&t);
		json_object_set_new(c->result, "token", json_string(secret));
	}
	explicit_bzero(secret, sizeof(secret));
	token_record_fini(&t);
	return r;
}

int op_token_list(struct op_call *c, struct err *e)
{
	json_t *list = json_array();

	pthread_mutex_lock(&c->d->lock);
	for (size_t i = 0; i < c->d->n_tokens; i++)
		json_array_append_new(list, format_token(&c->d->tokens[i]));
	pthread_mutex_unlock(&c->d->lock);
	c->result = json_pack("{s:o}", "tokens", list);
	return 0;
}

int op_token_revoke(struct op_call *c, struct err *e)
{
	int r = store_token_remove(c->d->store, op_string(c, "token"), e);

	return r < 0 ? r : tokens_load(c->d, e);
}
