/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme_prp.c - physical region pages: where a command's data are (NVM Express 1.4, 4.3)
 *
 * PRP 1 may begin inside a page.  PRP 2 is the second page, or a list of all further ones when
 * there are more; a list's last entry in a page is the next page of the list.  Each is read once.
 */
#include "device/nvme_priv.h"

static bool add_part(struct nvme_cmd *c, uint64_t gpa, uint32_t len, bool to_guest)
{
	const struct gmem_slot *where = gmem_slot(c->n->mem, gpa);
	void *p = gmem_ptr(c->n->mem, gpa, len);

	if (!p || !where || (to_guest && (where->flags & GMEM_ROM)))
		return false;
	c->gpa[c->n_iov] = gpa;
	c->iov[c->n_iov++] = (struct iovec){p, len};
	return true;
}

/* @left more bytes in pages that the list at @list names; the list may begin inside a page. */
static bool add_list(struct nvme_cmd *c, uint64_t list, uint64_t left, bool to_guest)
{
	uint8_t raw[8];

	if (list & 7)
		return false;
	for (; left; list += 8) {
		uint64_t entry;

		if (gmem_read(c->n->mem, list, raw, sizeof(raw)) < 0)
			return false;
		entry = load_le64(raw);
		if (entry & (NVME_PAGE - 1))
			return false;
		if (list % NVME_PAGE == NVME_PAGE - 8 && left > NVME_PAGE) {
			list = entry - 8;
			continue;
		}
		if (!add_part(c, entry, (uint32_t)MIN(left, NVME_PAGE), to_guest))
			return false;
		left -= MIN(left, NVME_PAGE);
	}
	return true;
}

static bool map(struct nvme_cmd *c, uint64_t len, bool to_guest)
{
	uint64_t prp1 = c->sqe.prp1, prp2 = c->sqe.prp2;
	uint64_t first = MIN(len, NVME_PAGE - prp1 % NVME_PAGE);

	if ((prp1 & 3) || !add_part(c, prp1, (uint32_t)first, to_guest))
		return false;
	len -= first;
	if (!len)
		return true;
	if (len > NVME_PAGE)
		return add_list(c, prp2, len, to_guest);
	return !(prp2 % NVME_PAGE) && add_part(c, prp2, (uint32_t)len, to_guest);
}

bool nvme_map(struct nvme_cmd *c, uint64_t len, bool to_guest)
{
	size_t parts = (size_t)len / NVME_PAGE + 2;

	nvme_unmap(c, false);
	if (!len || len > (uint64_t)NVME_PAGE << NVME_MDTS)
		return false;
	c->iov = calloc(parts, sizeof(*c->iov));
	c->gpa = calloc(parts, sizeof(*c->gpa));
	if (c->iov && c->gpa && map(c, len, to_guest))
		return true;
	nvme_unmap(c, false);
	return false;
}

void nvme_unmap(struct nvme_cmd *c, bool written)
{
	for (unsigned int i = 0; i < c->n_iov && written; i++)
		gmem_dirty(c->n->mem, c->gpa[i], c->iov[i].iov_len);
	free(c->iov);
	free(c->gpa);
	c->iov = NULL;
	c->gpa = NULL;
	c->n_iov = 0;
}

bool nvme_copy_out(struct nvme_cmd *c, const void *data, uint32_t len)
{
	const uint8_t *p = data;

	if (!nvme_map(c, len, true))
		return false;
	for (unsigned int i = 0; i < c->n_iov; i++) {
		memcpy(c->iov[i].iov_base, p, c->iov[i].iov_len);
		p += c->iov[i].iov_len;
	}
	nvme_unmap(c, true);
	return true;
}

bool nvme_copy_in(struct nvme_cmd *c, void *data, uint32_t len)
{
	uint8_t *p = data;

	if (!nvme_map(c, len, false))
		return false;
	for (unsigned int i = 0; i < c->n_iov; i++) {
		memcpy(p, c->iov[i].iov_base, c->iov[i].iov_len);
		p += c->iov[i].iov_len;
	}
	nvme_unmap(c, false);
	return true;
}
