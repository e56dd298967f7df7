/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/terminal.c - the pseudoterminal of a process with process.terminal
 */
#include "container/terminal.h"

#include "base/fd.h"
#include "container/path.h"
#include "container/proc.h"
#include "container/rootfs_priv.h"
#include "container/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <termios.h>

int terminal_connect(const char *path, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, -errno, "socket");
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "console socket %s", path);
	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "console socket %s", path);
	return steal_fd(&fd);
}

int terminal_open(int root, const struct spec_process *p, int *master, int *slave, struct err *e)
{
	autoclose int m = path_open(root, "/dev/ptmx", O_RDWR | O_NOCTTY), s = -1;
	struct winsize size = {.ws_row = p->rows, .ws_col = p->columns};
	struct stat st;
	int unlock = 0;

	if (m < 0)
		return err_set(e, m, "open /dev/ptmx in the container");
	/* The image says where that name leads. */
	if (fstat(m, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
		return err_msg(e, -ENODEV, "/dev/ptmx in the container makes no terminals");
	if (ioctl(m, TIOCSPTLCK, &unlock) < 0)
		return err_set(e, -errno, "unlock the terminal");
	/* By the master and not by a path, which something else could lie at. */
	s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s < 0)
		return err_set(e, -errno, "open the terminal");
	if (p->rows && p->columns && ioctl(m, TIOCSWINSZ, &size) < 0)
		return err_set(e, -errno, "size of the terminal");
	if (fchown(s, p->uid, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
		return err_set(e, -errno, "owner of the terminal");
	*master = steal_fd(&m);
	*slave = steal_fd(&s);
	return 0;
}

int terminal_bind_console(int root, int slave, struct err *e)
{
	autoclose int target = path_make(root, "/dev/console", PATH_FILE), mnt = -1;
	int r;

	if (target < 0)
		return err_set(e, target, "make /dev/console");
	mnt = r = mount_clone(slave, "", false);
	if (mnt >= 0)
		r = mount_attach(mnt, target);
	return r < 0 ? err_set(e, r, "bind the terminal to /dev/console") : 0;
}

int terminal_take(int socket, int master, int slave, struct err *e)
{
	static const char name[] = "/dev/ptmx";
	int r = sync_send_fd(socket, master, name, sizeof(name) - 1);

	if (r < 0)
		return err_set(e, r, "hand over the terminal");
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return err_set(e, -errno, "controlling terminal");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return err_set(e, -errno, "standard streams");
	return 0;
}

/* --- relay --- */

static void copy_size(int master)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(master, TIOCSWINSZ, &size);
}

/* false at the end of @from. */
static bool copy(int from, int to)
{
	char buf[8192];
	ssize_t n = read(from, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	return n > 0 && write_full(to, buf, (size_t)n) == 0;
}

static void relay(int master, int pidfd, int signals)
{
	struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN},
			     {.fd = master, .events = POLLIN},
			     {.fd = pidfd, .events = POLLIN},
			     {.fd = signals, .events = POLLIN}};
	struct signalfd_siginfo info;

	for (;;) {
		if (poll(p, ARRAY_SIZE(p), p[2].fd < 0 ? 0 : -1) < 0 && errno != EINTR)
			return;
		if (p[1].revents && !copy(master, STDOUT_FILENO))
			return; /* EIO: nobody has the terminal open any more */
		if (p[0].revents && !copy(STDIN_FILENO, master))
			p[0].fd = -1;
		if (p[3].revents && read(signals, &info, sizeof(info)) == sizeof(info)) {
			if (info.ssi_signo == SIGWINCH)
				copy_size(master);
			else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGPIPE)
				(void)!proc_signal(pidfd, (int)info.ssi_signo);
		}
		/* What it wrote before it ended is still to be read. */
		if (p[2].fd < 0 && !(p[1].revents & POLLIN))
			return;
		if (p[2].revents)
			p[2].fd = -1;
	}
}

int terminal_relay(int master, int pidfd, struct err *e)
{
	struct termios old, raw;
	bool tty = tcgetattr(STDIN_FILENO, &old) == 0;
	autoclose int signals = -1;
	sigset_t set;

	sigfillset(&set);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		return err_set(e, -errno, "signals");
	if (tty) {
		raw = old;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
		copy_size(master);
	}
	relay(master, pidfd, signals);
	if (tty)
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
	return 0;
}
