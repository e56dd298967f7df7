/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/tree_priv.h - between the files of the tree
 */
#pragma once

#include "virtio/tree.h"

/* @name in @dir is @new_name in @new_dir now: nodes that stand for it follow. */
void nodes_renamed(struct tree *t, struct tree_node *dir, const char *name,
		   struct tree_node *new_dir, const char *new_name);
