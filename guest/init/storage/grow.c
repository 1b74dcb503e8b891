/* SPDX-License-Identifier: Apache-2.0 */
#include "grow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cleanup.h"

/* Of the kernel's own headers, which no package has: fs/ext4/ext4.h and fs/xfs/libxfs/xfs_fs.h */
#define EXT4_RESIZE _IOW('f', 16, uint64_t)
#define XFS_MAGIC 0x58465342

struct xfs_geometry {
	uint32_t block_size, rt_extent_size, ag_blocks, ag_count, log_blocks, sector_size, inode_size, inodes_max_percent;
	uint64_t data_blocks, rt_blocks, rt_extents, log_start;
	unsigned char uuid[16];
	uint32_t stripe_unit, stripe_width;
	int32_t version;
	uint32_t flags, log_sector_size, rt_sector_size, directory_block_size;
};

struct xfs_growth {
	uint64_t blocks;
	uint32_t inodes_max_percent;
};

#define XFS_GEOMETRY _IOR('X', 100, struct xfs_geometry)
#define XFS_GROW _IOW('X', 110, struct xfs_growth)

static int grow_xfs(int fd, uint64_t size)
{
	struct xfs_geometry geometry;
	struct xfs_growth growth;

	if (ioctl(fd, XFS_GEOMETRY, &geometry) < 0)
		return -1;
	growth = (struct xfs_growth){ .blocks = size / geometry.block_size, .inodes_max_percent = geometry.inodes_max_percent };
	return growth.blocks > geometry.data_blocks ? ioctl(fd, XFS_GROW, &growth) : 0;
}

int grow(int fd, const char *device, struct error *error)
{
	cleanup_close int disk = open(device, O_RDONLY | O_CLOEXEC);
	uint64_t size, blocks;
	struct statfs fs;
	int result;

	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size) < 0 || fstatfs(fd, &fs) < 0)
		return error_sys(error, errno, "cannot look at disk %s", device);
	blocks = size / (uint64_t)fs.f_bsize;
	if (fs.f_type == EXT4_SUPER_MAGIC)
		result = ioctl(fd, EXT4_RESIZE, &blocks);
	else if (fs.f_type == XFS_MAGIC)
		result = grow_xfs(fd, size);
	else
		return error_set(error, KIND_UNSUPPORTED, "the file system on %s cannot grow: it is neither ext4 nor XFS", device);
	return result < 0 ? error_sys(error, errno, "cannot grow the file system on %s", device) : 0;
}
