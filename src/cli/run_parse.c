/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_parse.c - the values of `insula run`'s options
 */
#include "base/fd.h"
#include "block/disk.h"
#include "cli/cli.h"
#include "cli/run.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

static int parse_number(const char *text, unsigned long max, unsigned int *ret)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || errno || n < 1 || n > max)
		return -EINVAL;
	*ret = (unsigned int)n;
	return 0;
}

int run_set_cpus(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	if (parse_number(value, 64, &cfg->m.cpus) < 0)
		return err_msg(e, -EINVAL, "'%s' is not a number from 1 to 64", value);
	return 0;
}

int run_set_memory(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct sysinfo si;
	uint64_t host;
	int r = cli_parse_size(value, &cfg->m.memory, e);

	if (r < 0)
		return r;
	sysinfo(&si);
	host = (uint64_t)si.totalram * si.mem_unit;
	err_exit(e, 0, EXIT_BAD_MEMORY);
	if (cfg->m.memory > host)
		return err_msg(e, -EINVAL, "%s is more than this host's memory, %llu MiB", value,
			       (unsigned long long)host >> 20);
	if (cfg->m.memory < UINT64_C(32) << 20)
		return err_msg(e, -EINVAL, "%s is too little to boot in; give 32M or more", value);
	cfg->m.memory = ALIGN_DOWN(cfg->m.memory, UINT64_C(4096));
	return 0;
}

int run_set_name(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	int r = machine_name_check(value, e);

	if (r < 0)
		return r;
	free(cfg->name);
	cfg->name = xstrdup(value);
	return 0;
}

/* A disk that is not there yet. */
static int create_disk(const char *path, const char *format, uint64_t size, struct err *e)
{
	struct qcow2_options o = {.size = ALIGN_UP(size, UINT64_C(4096)), .refcount_order = -1};

	err_exit(e, 0, EXIT_BAD_DISK);
	return disk_create(path, format, &o, false, e);
}

static int check_disk(const char *path, struct machine_disk *d, struct err *e)
{
	struct stat st;

	d->path = realpath(path, NULL);
	err_exit(e, 0, EXIT_BAD_DISK);
	if (!d->path || stat(d->path, &st) < 0 ||
	    access(d->path, d->read_only ? R_OK : R_OK | W_OK))
		return err_set(e, -errno, "%s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_msg(e, -EINVAL, "%s is neither a file nor a block device", path);
	return 0;
}

static int set_disk_option(struct machine_disk *d, const char *o, uint64_t *size, struct err *e)
{
	if (strncmp(o, "size=", 5) == 0)
		return cli_parse_size(o + 5, size, e);
	if (strncmp(o, "bytes=", 6) == 0)
		return cli_parse_size(o + 6, &d->rate[VM_RATE_BYTES].rate, e);
	if (strncmp(o, "ops=", 4) == 0)
		return cli_parse_size(o + 4, &d->rate[VM_RATE_OPS].rate, e);
	if (strcmp(o, "readonly") == 0)
		d->read_only = true;
	else if (strcmp(o, "format=raw") == 0 || strcmp(o, "format=qcow2") == 0)
		d->format = o[7] == 'r' ? "raw" : "qcow2";
	else if (strcmp(o, "bus=ahci") == 0 || strcmp(o, "bus=nvme") == 0)
		d->bus = o[4] == 'a' ? "ahci" : "nvme";
	else if (strcmp(o, "bus=scsi") == 0)
		d->bus = "scsi";
	else if (strcmp(o, "bus=virtio") == 0)
		d->bus = "virtio";
	else
		return err_msg(e, -EINVAL,
			       "'%s' is not size=SIZE, format=raw, format=qcow2, "
			       "bus=virtio, bus=ahci, bus=nvme, bus=scsi, readonly, "
			       "bytes=SIZE or ops=N",
			       o);
	return 0;
}

/* FILE[,size=SIZE][,format=raw|qcow2][,bus=virtio|ahci|nvme][,readonly][,bytes=SIZE][,ops=N] */
int run_set_disk(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	autofree char *copy = xstrdup(value);
	struct machine_disk *d = &cfg->m.disks[cfg->m.n_disks];
	char *save = NULL;
	const char *path = strtok_r(copy, ",", &save);
	uint64_t size = 0;
	int r = 0;

	d->format = "auto";
	d->bus = "virtio";
	if (cfg->m.n_disks == MACHINE_MAX_DEVS - 1)
		return err_msg(e, -EINVAL, "more than %d disks", MACHINE_MAX_DEVS - 1);
	if (!path)
		return err_msg(e, -EINVAL, "a file is missing");
	for (char *o = strtok_r(NULL, ",", &save); o && r == 0; o = strtok_r(NULL, ",", &save))
		r = set_disk_option(d, o, &size, e);
	if (r == 0 && size && access(path, F_OK) < 0 && errno == ENOENT)
		r = create_disk(path, d->format, size, e);
	if (r == 0)
		r = check_disk(path, d, e);
	if (r == 0)
		cfg->m.n_disks++;
	return r;
}

int run_check_disc(const char *path, struct err *e)
{
	if (strcmp(disk_format(path, NULL), "raw") == 0)
		return 0;
	err_exit(e, 0, EXIT_BAD_DISK);
	return err_msg(e, -EINVAL, "%s: a disc must be raw; `insula disk convert` makes it so",
		       path);
}

/* FILE, or "none" for a drive without a disc */
int run_set_cdrom(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct machine_disk *d = &cfg->m.disks[cfg->m.n_disks];
	int r = 0;

	if (cfg->m.n_disks == MACHINE_MAX_DEVS - 1)
		return err_msg(e, -EINVAL, "more than %d disks", MACHINE_MAX_DEVS - 1);
	d->format = "raw";
	d->cdrom = d->read_only = true;
	d->bus = "ahci";
	if (strcmp(value, "none") != 0) {
		r = run_check_disc(value, e);
		if (r == 0)
			r = check_disk(value, d, e);
	}
	if (r == 0)
		cfg->m.n_disks++;
	return r;
}

/* bios, uefi or a file */
int run_set_firmware(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	free(cfg->m.firmware);
	if (strcmp(value, "bios") == 0 || strcmp(value, "uefi") == 0) {
		cfg->m.firmware = xstrdup(value);
		return 0;
	}
	cfg->m.firmware = realpath(value, NULL);
	err_exit(e, 0, EXIT_BAD_KERNEL);
	return cfg->m.firmware ? 0 : err_set(e, -errno, "%s", value);
}

/* Words of the description's `boot`, and menu. */
int run_set_boot(void *config, const char *value, struct err *e)
{
	static const char *const words[] = {"disk", "cdrom", "network", "menu"};
	struct run_config *cfg = config;
	autofree char *copy = xstrdup(value);
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && strcmp(o, words[i]) != 0)
			i++;
		if (i == ARRAY_SIZE(words))
			return err_msg(e, -EINVAL, "'%s' is not disk, cdrom, network or menu", o);
	}
	free(cfg->m.boot);
	cfg->m.boot = xstrdup(value);
	return 0;
}

/* none, text, vnc[=ADDRESS:PORT|unix:PATH] */
int run_set_display(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	free(cfg->m.vnc);
	cfg->m.vnc = NULL;
	cfg->m.text_screen = strcmp(value, "text") == 0;
	if (cfg->m.text_screen || strcmp(value, "none") == 0)
		return 0;
	if (strcmp(value, "vnc") == 0)
		cfg->m.vnc = xstrdup("127.0.0.1:5900");
	else if (strncmp(value, "vnc=", 4) == 0 && value[4])
		cfg->m.vnc = xstrdup(value + 4);
	else
		return err_msg(e, -EINVAL, "'%s' is not none, text or vnc[=ADDRESS]", value);
	return 0;
}

/* The first line of a file: a password on the command line would be seen by all. */
int run_set_vnc_password(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	autostrbuf struct strbuf text = {0};
	int r = read_file(value, 4096, &text);

	if (r < 0)
		return err_set(e, r, "%s", value);
	free(cfg->m.vnc_password);
	cfg->m.vnc_password = xstrdup(text.data ? text.data : "");
	cfg->m.vnc_password[strcspn(cfg->m.vnc_password, "\r\n")] = '\0';
	if (!cfg->m.vnc_password[0] || strlen(cfg->m.vnc_password) > 8)
		return err_msg(e, -EINVAL, "%s: a VNC password has 1 to 8 bytes", value);
	return 0;
}

/* [ADDR:]HOST:GUEST[/udp] with an address in brackets if it is IPv6 */
int run_set_publish(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct machine_publish *p = &cfg->m.publish[cfg->m.n_publish];
	autofree char *copy = xstrdup(value);
	char *slash = strrchr(copy, '/'), *guest, *host;
	struct in6_addr addr;

	if (cfg->m.n_publish == ARRAY_SIZE(cfg->m.publish))
		return err_msg(e, -EINVAL, "more than %zu ports", ARRAY_SIZE(cfg->m.publish));
	if (slash) {
		*slash++ = '\0';
		p->udp = strcmp(slash, "udp") == 0;
		if (!p->udp && strcmp(slash, "tcp") != 0)
			return err_msg(e, -EINVAL, "'%s' is neither tcp nor udp", slash);
	}
	guest = strrchr(copy, ':');
	if (!guest)
		return err_msg(e, -EINVAL, "'%s' is not [ADDR:]HOST:GUEST[/udp]", value);
	*guest++ = '\0';
	host = strrchr(copy, ':');
	if (host)
		*host++ = '\0';
	if (parse_number(host ? host : copy, 65535, &p->host) < 0 ||
	    parse_number(guest, 65535, &p->guest) < 0)
		return err_msg(e, -EINVAL, "'%s': ports are numbers from 1 to 65535", value);
	if (host && inet_pton(AF_INET, copy, &addr) != 1 && inet_pton(AF_INET6, copy, &addr) != 1)
		return err_msg(e, -EINVAL, "'%s' is not an address", copy);
	p->address = xstrdup(host ? copy : "127.0.0.1");
	cfg->m.n_publish++;
	return 0;
}

/* HOSTDIR:GUESTDIR[:ro] */
int run_set_share(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct machine_share *s = &cfg->m.shares[cfg->m.n_shares];
	autofree char *copy = xstrdup(value), *host = NULL;
	char *guest = strchr(copy, ':'), *mode = guest ? strchr(guest + 1, ':') : NULL;
	struct stat st;

	if (cfg->m.n_shares == MACHINE_MAX_DEVS)
		return err_msg(e, -EINVAL, "more than %d shares", MACHINE_MAX_DEVS);
	if (mode) {
		*mode++ = '\0';
		s->read_only = strcmp(mode, "ro") == 0;
		if (!s->read_only && strcmp(mode, "rw") != 0)
			return err_msg(e, -EINVAL, "'%s' is neither ro nor rw", mode);
	}
	if (!guest || guest[1] != '/')
		return err_msg(e, -EINVAL, "'%s' is not HOSTDIR:/GUESTDIR[:ro]", value);
	*guest++ = '\0';
	host = realpath(copy, NULL);
	if (!host || stat(host, &st) < 0)
		return err_set(e, -errno, "%s", copy);
	if (!S_ISDIR(st.st_mode))
		return err_msg(e, -ENOTDIR, "%s is not a directory", copy);
	if (access(host, R_OK | X_OK) < 0)
		return err_set(e, -errno, "%s", copy);
	s->host = steal_ptr(&host);
	s->guest = xstrdup(guest);
	cfg->m.n_shares++;
	return 0;
}

/* NAME=value, or NAME to pass ours on */
int run_set_env(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	const char *ours;

	if (cfg->n_env == ARRAY_SIZE(cfg->env))
		return err_msg(e, -EINVAL, "more than %zu variables", ARRAY_SIZE(cfg->env));
	if (!value[0] || value[0] == '=')
		return err_msg(e, -EINVAL, "'%s' is not NAME=VALUE", value);
	if (strchr(value, '=')) {
		cfg->env[cfg->n_env++] = xstrdup(value);
		return 0;
	}
	ours = getenv(value);
	if (ours)
		cfg->env[cfg->n_env++] = xasprintf("%s=%s", value, ours);
	return 0;
}

static int set_choice(char **member, const char *value, const char *const *choices, struct err *e)
{
	autostrbuf struct strbuf list = {0};

	for (size_t i = 0; choices[i]; i++) {
		if (strcmp(value, choices[i]) == 0) {
			free(*member);
			*member = xstrdup(value);
			return 0;
		}
		strbuf_printf(&list, "%s%s", i ? ", " : "", choices[i]);
	}
	return err_msg(e, -EINVAL, "'%s' is not one of %s", value, list.data);
}

int run_set_engine(void *config, const char *value, struct err *e)
{
	static const char *const choices[] = {"auto", "kvm", "soft", "jit", "interp", NULL};

	return set_choice(&((struct run_config *)config)->m.engine, value, choices, e);
}

int run_set_machine(void *config, const char *value, struct err *e)
{
	static const char *const choices[] = {"q35", "micro", NULL};

	return set_choice(&((struct run_config *)config)->m.board, value, choices, e);
}

int run_set_net(void *config, const char *value, struct err *e)
{
	static const char *const choices[] = {"user", "none", "user,model=virtio",
					      "user,model=e1000", NULL};
	struct run_config *cfg = config;
	autofree char *net = NULL;
	int r = set_choice(&net, value, choices, e);

	if (r < 0)
		return r;
	cfg->m.net = strcmp(net, "none") != 0;
	cfg->m.net_model = strcmp(net, "user,model=e1000") == 0 ? "e1000" : "virtio";
	return 0;
}

int run_set_gpu(void *config, const char *value, struct err *e)
{
	static const char *const choices[] = {"vga", "virtio", NULL};
	autofree char *gpu = NULL;
	int r = set_choice(&gpu, value, choices, e);

	if (r == 0)
		((struct run_config *)config)->m.gpu = choices[strcmp(gpu, "virtio") == 0];
	return r;
}

int run_set_usb(void *config, const char *value, struct err *e)
{
	static const char *const choices[] = {"auto", "none", "tablet", "keyboard", "both", NULL};
	struct run_config *cfg = config;
	autofree char *usb = NULL;
	int r = set_choice(&usb, value, choices, e);

	for (size_t i = 0; r == 0 && choices[i]; i++)
		if (strcmp(usb, choices[i]) == 0)
			cfg->m.usb = choices[i];
	return r;
}

static int set_text(char **member, const char *value)
{
	free(*member);
	*member = xstrdup(value);
	return 0;
}

int run_set_kernel(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->m.kernel, value);
}

int run_set_initrd(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->m.initrd, value);
}

int run_set_append(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->m.append, value);
}

int run_set_vnc_origin(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->m.vnc_origin, value);
}

int run_set_vnc_tls(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->m.vnc_tls, value);
}

int run_set_isolation(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	if (strcmp(value, "vm") != 0 && strcmp(value, "container") != 0)
		return err_msg(e, -EINVAL, "'%s' is not one of vm, container", value);
	free(cfg->isolation);
	cfg->isolation = xstrdup(value);
	return 0;
}

int run_set_workdir(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->workdir, value);
}

int run_set_user(void *config, const char *value, struct err *e)
{
	return set_text(&((struct run_config *)config)->user, value);
}
