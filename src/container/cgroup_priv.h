/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_priv.h - between the parts of control groups
 */
#pragma once

#include "container/cgroup.h"

/* The tree with this controller, NULL when there is none or ours is not in it. */
const struct cgroup_tree *cgroup_find(const struct cgroup *c, const char *controller);
/* A file of the container's directory in a tree. */
must_check int cgroup_write(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
			    const char *text);
must_check int cgroup_read(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
			   struct strbuf *ret);
/* First number in it; false when it has none. */
bool cgroup_read_number(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
			uint64_t *ret);

must_check int cgroup_v1_apply(const struct cgroup *c, const struct spec_resources *r,
			       struct err *e);
must_check int cgroup_v1_prepare(const struct cgroup *c, const struct cgroup_tree *t);
must_check int cgroup_v1_devices(const struct cgroup *c, const struct spec_device_rule *rules,
				 size_t n, struct err *e);
must_check int cgroup_v2_apply(const struct cgroup *c, const struct spec_resources *r,
			       struct err *e);
/* Hands the controllers down to the container's directory. */
void cgroup_v2_enable(const struct cgroup *c);
must_check int cgroup_v2_devices(const struct cgroup *c, const struct spec_device_rule *rules,
				 size_t n, struct err *e);
