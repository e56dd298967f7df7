/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/initrd_agent.c - the initramfs of one start: the kernel's modules, then an archive of ours
 * with the agent and its configuration
 */
#include "base/dirs.h"
#include "base/fd.h"
#include "codec/cpio.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>

int initrd_add_agent(const char *modules, const char *config, const char *path, struct err *e)
{
	autostrbuf struct strbuf out = {0}, agent = {0}, ours = {0};
	autofree char *program = NULL;
	struct cpio c = {.out = &ours, .inode = 100000};
	autoclose int fd = -1;
	int r = dirs_program("insula-agent", &program, e);

	if (r < 0)
		return r;
	r = read_file(modules, 256u << 20, &out);
	if (r < 0)
		return err_set(e, r, "read %s", modules);
	r = read_file(program, 64u << 20, &agent);
	if (r < 0)
		return err_set(e, r, "read %s", program);
	cpio_file(&c, "init", 0755, agent.data, (uint32_t)agent.len);
	cpio_dir(&c, "insula", 0755);
	cpio_file(&c, "insula/config.json", 0600, config, (uint32_t)strlen(config));
	cpio_end(&c);
	strbuf_add(&out, ours.data, ours.len);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_full(fd, out.data, out.len);
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}
