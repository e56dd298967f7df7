/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/net.c - the guest's network: addresses given by the host, so that nothing has to be waited
 * for
 *
 * The configuration's "net" object: {address, prefix, gateway, dns: [..]}.  Absent: only loopback.
 */
#include "agent/agent_priv.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

static void set_address(struct sockaddr *ret, in_addr_t addr)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = addr};

	memcpy(ret, &in, sizeof(in));
}

static int interface_up(int sock, const char *name)
{
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(sock, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(sock, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

/* The first interface that is not the loopback. */
static bool find_interface(char ret[IFNAMSIZ])
{
	DIR *d = opendir("/sys/class/net");
	struct dirent *de;

	ret[0] = '\0';
	while (d && (de = readdir(d))) {
		char path[300];
		struct stat st;

		snprintf(path, sizeof(path), "/sys/class/net/%s/device", de->d_name);
		if (de->d_name[0] == '.' || stat(path, &st) < 0 || strlen(de->d_name) >= IFNAMSIZ)
			continue;
		if (!ret[0] || strcmp(de->d_name, ret) < 0)
			strcpy(ret, de->d_name);
	}
	if (d)
		closedir(d);
	return ret[0];
}

static int configure_interface(int sock, const char *name, const json_t *net)
{
	const char *address = config_string(net, "address"),
		   *gateway = config_string(net, "gateway");
	json_int_t prefix = json_integer_value(json_object_get(net, "prefix"));
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct ifreq ifr = {0};
	struct in_addr addr;
	int r;

	if (!address || inet_pton(AF_INET, address, &addr) != 1 || prefix < 1 || prefix > 32)
		return -EINVAL;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	set_address(&ifr.ifr_addr, addr.s_addr);
	if (ioctl(sock, SIOCSIFADDR, &ifr) < 0)
		return -errno;
	set_address(&ifr.ifr_netmask, htonl(UINT32_MAX << (32 - prefix)));
	if (ioctl(sock, SIOCSIFNETMASK, &ifr) < 0)
		return -errno;
	r = interface_up(sock, name);
	if (r < 0 || !gateway)
		return r;
	if (inet_pton(AF_INET, gateway, &addr) != 1)
		return -EINVAL;
	set_address(&route.rt_gateway, addr.s_addr);
	set_address(&route.rt_dst, INADDR_ANY);
	set_address(&route.rt_genmask, INADDR_ANY);
	return ioctl(sock, SIOCADDRT, &route) < 0 ? -errno : 0;
}

static void write_text(const char *path, const struct strbuf *text)
{
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write_full(fd, text->data, text->len) < 0)
		agent_log("write %s: %s", path, strerror(errno));
}

/* Bound over the image's file, so that a kept disk is not changed.  Where the image has none, or a
 * link to a place under /run that its init would fill in, the file is made there. */
static void place_file(const char *name, const struct strbuf *text)
{
	char ours[300], link[256];
	const char *target = name;
	struct stat st;
	ssize_t n;

	if (stat(name, &st) < 0) {
		n = readlink(name, link, sizeof(link) - 1);
		if (n > 0 && link[0] != '.') {
			link[n] = '\0';
			target = link;
			if (link[0] == '/') {
				autofree char *dir = xstrdup(link);

				*strrchr(dir, '/') = '\0';
				if (dir[0])
					make_dirs(dir);
			}
		} else if (n > 0) {
			unlink(name);
		}
		write_text(target, text);
		return;
	}
	snprintf(ours, sizeof(ours), AGENT_RUN_DIR "/%s", strrchr(name, '/') + 1);
	write_text(ours, text);
	if (mount(ours, name, NULL, MS_BIND, NULL) < 0)
		agent_log("%s: %s", name, strerror(errno));
}

static void name_files(const json_t *config, const json_t *net)
{
	autostrbuf struct strbuf resolv = {0}, hosts = {0};
	const char *host = config_string(config, "hostname");
	json_t *server;
	struct stat st;
	size_t i;

	json_array_foreach(json_object_get(net, "dns"), i, server)
	{
		if (json_is_string(server))
			strbuf_printf(&resolv, "nameserver %s\n", json_string_value(server));
	}
	if (resolv.len)
		place_file("/etc/resolv.conf", &resolv);
	strbuf_printf(&hosts, "127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost\n",
		      host ? host : "insula");
	if (stat("/etc/hosts", &st) < 0 || st.st_size == 0)
		place_file("/etc/hosts", &hosts);
}

void net_configure(const json_t *config)
{
	autoclose int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	json_t *net = json_object_get(config, "net");
	char name[IFNAMSIZ];
	int r;

	if (sock < 0)
		return;
	r = interface_up(sock, "lo");
	if (r < 0)
		agent_log("interface lo: %s", strerror(-r));
	if (json_is_object(net)) {
		r = find_interface(name) ? configure_interface(sock, name, net) : -ENODEV;
		if (r < 0)
			agent_log("network: %s", strerror(-r));
	}
	name_files(config, net);
}
