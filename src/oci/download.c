/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/download.c - blobs from a registry: several at once, each going on where it was cut off
 */
#include "oci/registry_priv.h"

#include "base/clock.h"
#include "base/fd.h"
#include "oci/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define AT_ONCE     4
#define TRIES       5
#define POLL_MS     200
#define RETRY_PAUSE (NSEC_PER_SEC / 2)

struct job {
	struct registry *g;
	const struct descriptor *blob;
	char *url, *path;
	CURL *handle; /* NULL while it does not run */
	struct request answer;
	int fd;
	uint64_t at, from; /* bytes there; when this try began */
	unsigned int tries;
	uint64_t not_before;
	bool done, too_long;
	int error; /* of writing */
};

struct download {
	struct registry *g;
	struct oci_store *s;
	CURLM *multi;
	struct job *jobs;
	size_t n, n_done;
	uint64_t total, began;
	uint64_t had; /* bytes of earlier tries */
};

static size_t take_bytes(char *data, size_t size, size_t n, void *opaque)
{
	struct job *j = opaque;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(j->handle, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 && status != 206) {
		if (j->answer.text.len < OCI_DOCUMENT_MAX)
			strbuf_add(&j->answer.text, data, len);
		return len;
	}
	/* The whole, though we asked for the rest. */
	if (status == 200 && j->at == j->from && j->from) {
		j->at = j->from = 0;
		if (ftruncate(j->fd, 0) < 0)
			j->error = -errno;
	}
	if (len > j->blob->size - MIN(j->at, j->blob->size)) {
		j->too_long = true;
		return 0;
	}
	if (j->error == 0)
		j->error = pwrite_full(j->fd, data, len, j->at);
	if (j->error < 0)
		return 0;
	j->at += len;
	return len;
}

static void start(struct download *d, struct job *j)
{
	char range[32];

	j->handle = registry_handle(d->g, j->url);
	j->from = j->at;
	j->tries++;
	request_fini(&j->answer);
	registry_authorize(d->g, j->handle);
	if (j->at) {
		snprintf(range, sizeof(range), "%llu-", (unsigned long long)j->at);
		curl_easy_setopt(j->handle, CURLOPT_RANGE, range);
	}
	curl_easy_setopt(j->handle, CURLOPT_WRITEFUNCTION, take_bytes);
	curl_easy_setopt(j->handle, CURLOPT_WRITEDATA, j);
	curl_easy_setopt(j->handle, CURLOPT_HEADERFUNCTION, request_header);
	curl_easy_setopt(j->handle, CURLOPT_HEADERDATA, &j->answer);
	curl_easy_setopt(j->handle, CURLOPT_PRIVATE, j);
	curl_multi_add_handle(d->multi, j->handle);
}

static int open_job(struct download *d, struct job *j, const struct descriptor *blob, struct err *e)
{
	struct stat st;

	j->g = d->g;
	j->blob = blob;
	j->url = xasprintf("%s/blobs/%s", d->g->base, blob->digest);
	j->path = oci_store_partial(d->s, blob->digest);
	j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (j->fd < 0 || fstat(j->fd, &st) < 0)
		return err_set(e, -errno, "open %s", j->path);
	if ((uint64_t)st.st_size > blob->size && ftruncate(j->fd, 0) < 0)
		return err_set(e, -errno, "%s", j->path);
	j->at = (uint64_t)st.st_size > blob->size ? 0 : (uint64_t)st.st_size;
	d->total += blob->size;
	d->had += j->at;
	return 0;
}

/* Its content is checked as a whole, what earlier tries brought too. */
static int finish(struct download *d, struct job *j, struct err *e)
{
	int r = oci_store_adopt(d->s, j->path, j->blob->digest, e);

	if (r == -EBADMSG && j->tries < TRIES && j->from) {
		/* The part from before was bad: all of it again. */
		close_p(&j->fd);
		d->total -= j->blob->size;
		free(j->url);
		free(j->path);
		j->url = j->path = NULL;
		return open_job(d, j, j->blob, e);
	}
	if (r == 0) {
		j->done = true;
		d->n_done++;
	}
	return r;
}

static int after_try(struct download *d, struct job *j, CURLcode c, long status, struct err *e)
{
	if (c == CURLE_ABORTED_BY_CALLBACK)
		return err_msg(e, -EINTR, "interrupted");
	if (j->error < 0)
		return err_set(e, j->error, "write %s", j->path);
	if (j->too_long)
		return err_msg(e, -EBADMSG, "registry %s sends more than the %llu bytes of %s",
			       d->g->host, (unsigned long long)j->blob->size, j->blob->digest);
	if (c == CURLE_OK && (status == 200 || status == 206) && j->at == j->blob->size)
		return finish(d, j, e);
	if (status == 401 && j->tries < TRIES)
		return registry_login(d->g, j->answer.challenge, e);
	if (status == 416) {
		j->at = 0;
		(void)!ftruncate(j->fd, 0);
	} else if (status >= 400 && status < 500 && status != 429 && status != 408) {
		return registry_failure(d->g, "get a layer of", status, &j->answer.text, e);
	}
	/* Progress makes up for a failure: only tries in vain count. */
	if (j->at > j->from)
		j->tries = 1;
	if (j->tries >= TRIES) {
		if (c == CURLE_OK && status >= 400)
			return registry_failure(d->g, "get a layer of", status, &j->answer.text, e);
		return err_msg(e, -EIO, "registry %s: %s: %s", d->g->host, j->blob->digest,
			       c == CURLE_OK ? "it ends too early" : curl_easy_strerror(c));
	}
	j->not_before = clock_now() + RETRY_PAUSE * j->tries;
	return 0;
}

static int collect(struct download *d, struct err *e)
{
	CURLMsg *m;
	int left, r = 0;

	while (r == 0 && (m = curl_multi_info_read(d->multi, &left))) {
		struct job *j = NULL;
		CURLcode c = m->data.result;
		long status = 0;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &j);
		curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
		curl_multi_remove_handle(d->multi, j->handle);
		curl_easy_cleanup(j->handle);
		j->handle = NULL;
		r = after_try(d, j, c, status, e);
	}
	return r;
}

static void show(const struct download *d)
{
	struct progress *p = d->g->progress;
	char text[96];
	struct progress_event ev = {.subject = d->g->name, .text = text};
	double seconds = (double)(clock_now() - d->began) / 1e9;
	uint64_t at = 0;

	for (size_t i = 0; i < d->n; i++)
		at += d->jobs[i].at;
	snprintf(text, sizeof(text), "layers %zu of %zu, %llu of %llu MiB", d->n_done, d->n,
		 (unsigned long long)at >> 20, (unsigned long long)d->total >> 20);
	ev.fraction = d->total ? MIN((double)at / (double)d->total, 0.99) : 0;
	if (at > d->had && seconds > 0.5)
		ev.seconds_left = (double)(d->total - at) * seconds / (double)(at - d->had);
	if (p->show)
		p->show(p->opaque, &ev);
}

static int run(struct download *d, struct err *e)
{
	int r = 0;

	while (r == 0 && d->n_done < d->n) {
		size_t running = 0;
		int still;

		if (progress_cancelled(d->g->progress))
			return err_msg(e, -EINTR, "interrupted");
		for (size_t i = 0; i < d->n; i++)
			running += d->jobs[i].handle != NULL;
		for (size_t i = 0; i < d->n && running < AT_ONCE; i++) {
			struct job *j = &d->jobs[i];

			if (j->done || j->handle || clock_now() < j->not_before)
				continue;
			/* A complete one of an earlier try. */
			if (j->at == j->blob->size && j->blob->size && j->tries == 0) {
				j->tries = TRIES - 1;
				j->from = j->at;
				r = finish(d, j, e);
				if (r < 0)
					return r;
				continue;
			}
			start(d, j);
			running++;
		}
		curl_multi_perform(d->multi, &still);
		r = collect(d, e);
		show(d);
		if (r == 0 && d->n_done < d->n)
			curl_multi_poll(d->multi, NULL, 0, POLL_MS, NULL);
	}
	return r;
}

int registry_blobs(struct registry *g, struct oci_store *s, const struct descriptor *const *list,
		   size_t n, struct err *e)
{
	struct download d = {.g = g, .s = s, .began = clock_now()};
	int r = 0;

	d.jobs = xcalloc(n + 1, sizeof(*d.jobs));
	d.multi = curl_multi_init();
	for (; d.n < n && r == 0; d.n++)
		r = open_job(&d, &d.jobs[d.n], list[d.n], e);
	if (r == 0)
		r = run(&d, e);
	for (size_t i = 0; i < d.n; i++) {
		struct job *j = &d.jobs[i];

		if (j->handle) {
			curl_multi_remove_handle(d.multi, j->handle);
			curl_easy_cleanup(j->handle);
		}
		request_fini(&j->answer);
		close_p(&j->fd);
		free(j->url);
		free(j->path);
	}
	curl_multi_cleanup(d.multi);
	free(d.jobs);
	return r;
}
