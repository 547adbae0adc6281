/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: streams the main path of the driver rkisp1, and changes the parameters of the ISP meanwhile.
 *   rkisp1-params MAINPATH PARAMS STATS WIDTH HEIGHT, where the first three are nodes such as /dev/video0
 * Lines on standard input are commands:
 *   FIELD VALUE...  sets a field of struct rkisp1_params_cfg, or its elements from the first on
 *   clear           sets all fields to 0
 *   take FILE       applies the fields, and writes the first frame with them to FILE, in the format NV16
 *   measure FILE    does the same, and writes the statistics of this frame to FILE.txt
 *   repeat FILE     writes the next frame to FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/rkisp1-config.h>
#include <linux/videodev2.h>

#define BUFFERS 4
/* The time limit of a frame. */
#define LIMIT_MS 30000

struct node {
	int fd;
	enum v4l2_buf_type type;
	void *memory[BUFFERS];
	size_t length;
};

struct done {
	unsigned int index;
	unsigned int sequence;
};

struct field {
	const char *name;
	size_t offset;
	size_t element;
	size_t count;
};

static struct rkisp1_params_cfg config;

/* A field that is a number, and one that is an array. */
#define AT(name) offsetof(struct rkisp1_params_cfg, name)
#define ONE(name) { #name, AT(name), sizeof(config.name), 1 }
#define MANY(name, first) { #name, AT(name), sizeof(config.name first), sizeof(config.name) / sizeof(config.name first) }
#define WINDOW(name) { #name, AT(name), sizeof(__u16), 4 }
#define METHODS(number) { "others.dpcc_config.methods" #number, AT(others.dpcc_config.methods[number]), sizeof(__u32), 6 }

static const struct field fields[] = {
	ONE(module_en_update), ONE(module_ens), ONE(module_cfg_update),
	WINDOW(meas.awb_meas_config.awb_wnd), ONE(meas.awb_meas_config.awb_mode),
	ONE(meas.awb_meas_config.max_y), ONE(meas.awb_meas_config.min_y), ONE(meas.awb_meas_config.max_csum),
	ONE(meas.awb_meas_config.min_c), ONE(meas.awb_meas_config.frames), ONE(meas.awb_meas_config.awb_ref_cr),
	ONE(meas.awb_meas_config.awb_ref_cb), ONE(meas.awb_meas_config.enable_ymax_cmp),
	ONE(meas.hst_config.mode), ONE(meas.hst_config.histogram_predivider),
	WINDOW(meas.hst_config.meas_window), MANY(meas.hst_config.hist_weight, [0]),
	ONE(meas.aec_config.mode), ONE(meas.aec_config.autostop), WINDOW(meas.aec_config.meas_window),
	ONE(meas.afc_config.num_afm_win), WINDOW(meas.afc_config.afm_win[0]), WINDOW(meas.afc_config.afm_win[1]),
	WINDOW(meas.afc_config.afm_win[2]), ONE(meas.afc_config.thres), ONE(meas.afc_config.var_shift),
	ONE(others.dpcc_config.mode), ONE(others.dpcc_config.output_mode), ONE(others.dpcc_config.set_use),
	METHODS(0), METHODS(1), METHODS(2), ONE(others.dpcc_config.ro_limits), ONE(others.dpcc_config.rnd_offs),
	ONE(others.bls_config.enable_auto), ONE(others.bls_config.en_windows),
	WINDOW(others.bls_config.bls_window1), WINDOW(others.bls_config.bls_window2),
	ONE(others.bls_config.bls_samples), ONE(others.bls_config.fixed_val.r), ONE(others.bls_config.fixed_val.gr),
	ONE(others.bls_config.fixed_val.gb), ONE(others.bls_config.fixed_val.b),
	MANY(others.sdg_config.curve_r.gamma_y, [0]), MANY(others.sdg_config.curve_g.gamma_y, [0]),
	MANY(others.sdg_config.curve_b.gamma_y, [0]), ONE(others.sdg_config.xa_pnts.gamma_dx0),
	ONE(others.sdg_config.xa_pnts.gamma_dx1),
	MANY(others.lsc_config.r_data_tbl, [0][0]), MANY(others.lsc_config.gr_data_tbl, [0][0]),
	MANY(others.lsc_config.gb_data_tbl, [0][0]), MANY(others.lsc_config.b_data_tbl, [0][0]),
	MANY(others.lsc_config.x_grad_tbl, [0]), MANY(others.lsc_config.y_grad_tbl, [0]),
	MANY(others.lsc_config.x_size_tbl, [0]), MANY(others.lsc_config.y_size_tbl, [0]),
	ONE(others.awb_gain_config.gain_red), ONE(others.awb_gain_config.gain_green_r),
	ONE(others.awb_gain_config.gain_blue), ONE(others.awb_gain_config.gain_green_b),
	ONE(others.flt_config.mode), ONE(others.flt_config.grn_stage1), ONE(others.flt_config.chr_h_mode),
	ONE(others.flt_config.chr_v_mode), ONE(others.flt_config.thresh_bl0), ONE(others.flt_config.thresh_bl1),
	ONE(others.flt_config.thresh_sh0), ONE(others.flt_config.thresh_sh1), ONE(others.flt_config.lum_weight),
	ONE(others.flt_config.fac_sh1), ONE(others.flt_config.fac_sh0), ONE(others.flt_config.fac_mid),
	ONE(others.flt_config.fac_bl0), ONE(others.flt_config.fac_bl1),
	ONE(others.bdm_config.demosaic_th),
	MANY(others.ctk_config.coeff, [0][0]), MANY(others.ctk_config.ct_offset, [0]),
	ONE(others.goc_config.mode), MANY(others.goc_config.gamma_y, [0]),
	ONE(others.dpf_config.gain.mode), MANY(others.dpf_config.g_flt.spatial_coeff, [0]),
	ONE(others.dpf_config.g_flt.gr_enable), ONE(others.dpf_config.g_flt.gb_enable),
	ONE(others.dpf_config.rb_flt.fltsize), MANY(others.dpf_config.rb_flt.spatial_coeff, [0]),
	ONE(others.dpf_config.rb_flt.r_enable), ONE(others.dpf_config.rb_flt.b_enable),
	MANY(others.dpf_config.nll.coeff, [0]), ONE(others.dpf_config.nll.scale_mode),
	ONE(others.dpf_strength_config.r), ONE(others.dpf_strength_config.g), ONE(others.dpf_strength_config.b),
	ONE(others.cproc_config.contrast), ONE(others.cproc_config.brightness), ONE(others.cproc_config.sat),
	ONE(others.cproc_config.hue),
	ONE(others.ie_config.effect), ONE(others.ie_config.color_sel), ONE(others.ie_config.eff_mat_1),
	ONE(others.ie_config.eff_mat_2), ONE(others.ie_config.eff_mat_3), ONE(others.ie_config.eff_mat_4),
	ONE(others.ie_config.eff_mat_5), ONE(others.ie_config.eff_tint),
};

static void fail(const char *what)
{
	perror(what);
	exit(2);
}

static void request(const struct node *node, unsigned long number, void *argument, const char *what)
{
	if (ioctl(node->fd, number, argument) < 0)
		fail(what);
}

static int has_planes(const struct node *node)
{
	return node->type == V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
}

static struct v4l2_buffer buffer_of(const struct node *node, unsigned int index, struct v4l2_plane *plane)
{
	struct v4l2_buffer buffer = { .index = index, .type = node->type, .memory = V4L2_MEMORY_MMAP };

	if (has_planes(node)) {
		buffer.m.planes = plane;
		buffer.length = 1;
	}
	return buffer;
}

static void open_node(struct node *node, const char *path, enum v4l2_buf_type type)
{
	node->type = type;
	node->fd = open(path, O_RDWR | O_NONBLOCK);
	if (node->fd < 0)
		fail(path);
}

static void map(struct node *node)
{
	struct v4l2_requestbuffers buffers = { .count = BUFFERS, .type = node->type, .memory = V4L2_MEMORY_MMAP };
	unsigned int i;

	request(node, VIDIOC_REQBUFS, &buffers, "VIDIOC_REQBUFS");
	if (buffers.count != BUFFERS) {
		fprintf(stderr, "%u buffers instead of %u\n", buffers.count, BUFFERS);
		exit(2);
	}
	for (i = 0; i < BUFFERS; i++) {
		struct v4l2_plane plane = {};
		struct v4l2_buffer buffer = buffer_of(node, i, &plane);
		off_t offset;

		request(node, VIDIOC_QUERYBUF, &buffer, "VIDIOC_QUERYBUF");
		node->length = has_planes(node) ? plane.length : buffer.length;
		offset = has_planes(node) ? plane.m.mem_offset : buffer.m.offset;
		node->memory[i] = mmap(NULL, node->length, PROT_READ | PROT_WRITE, MAP_SHARED, node->fd, offset);
		if (node->memory[i] == MAP_FAILED)
			fail("mmap");
	}
}

static void queue(const struct node *node, unsigned int index)
{
	struct v4l2_plane plane = {};
	struct v4l2_buffer buffer = buffer_of(node, index, &plane);

	if (node->type == V4L2_BUF_TYPE_META_OUTPUT)
		buffer.bytesused = sizeof(config);
	/* The driver adds the types of a measurement to those that a buffer has. */
	if (node->type == V4L2_BUF_TYPE_META_CAPTURE)
		memset(node->memory[index], 0, node->length);
	request(node, VIDIOC_QBUF, &buffer, "VIDIOC_QBUF");
}

/* Waits for a done buffer. */
static struct done wait_for(const struct node *node)
{
	struct pollfd pollfd = { .fd = node->fd, .events = POLLIN | POLLOUT };

	for (;;) {
		struct v4l2_plane plane = {};
		struct v4l2_buffer buffer = buffer_of(node, 0, &plane);

		if (!ioctl(node->fd, VIDIOC_DQBUF, &buffer))
			return (struct done){ buffer.index, buffer.sequence };
		if (errno != EAGAIN)
			fail("VIDIOC_DQBUF");
		if (poll(&pollfd, 1, LIMIT_MS) <= 0) {
			fprintf(stderr, "no buffer is done\n");
			exit(2);
		}
	}
}

/* The first buffer of frame @sequence or later. */
static struct done wait_for_frame(const struct node *node, unsigned int sequence)
{
	struct done done;

	while ((done = wait_for(node)).sequence < sequence)
		queue(node, done.index);
	return done;
}

static void write_file(const char *name, const void *bytes, size_t length)
{
	FILE *file = fopen(name, "w");

	if (!file || fwrite(bytes, 1, length, file) != length || fclose(file))
		fail(name);
}

static void write_statistics(const char *name, const struct rkisp1_stat_buffer *buffer)
{
	const struct rkisp1_cif_isp_awb_meas *white = &buffer->params.awb.awb_mean[0];
	const struct rkisp1_cif_isp_bls_meas_val *black = &buffer->params.ae.bls_val;
	char path[256];
	FILE *file;
	int i;

	snprintf(path, sizeof(path), "%s.txt", name);
	file = fopen(path, "w");
	if (!file)
		fail(path);
	fprintf(file, "types %u\n", buffer->meas_type);
	fprintf(file, "white %u %u %u %u\n", white->cnt, white->mean_y_or_g, white->mean_cb_or_b, white->mean_cr_or_r);
	fprintf(file, "black %u %u %u %u\n", black->meas_r, black->meas_gr, black->meas_gb, black->meas_b);
	fprintf(file, "exposure");
	for (i = 0; i < RKISP1_CIF_ISP_AE_MEAN_MAX_V10; i++)
		fprintf(file, " %u", buffer->params.ae.exp_mean[i]);
	fprintf(file, "\nfocus");
	for (i = 0; i < RKISP1_CIF_ISP_AFM_MAX_WINDOWS; i++)
		fprintf(file, " %u %u", buffer->params.af.window[i].sum, buffer->params.af.window[i].lum);
	fprintf(file, "\nhistogram");
	for (i = 0; i < RKISP1_CIF_ISP_HIST_BIN_N_MAX_V10; i++)
		fprintf(file, " %u", buffer->params.hist.hist_bins[i]);
	fprintf(file, "\n");
	if (fclose(file))
		fail(path);
}

/* Sets the field @name to the numbers in @values. */
static void set(const char *name, char *values)
{
	const struct field *field = fields;
	unsigned char *at;
	size_t count = 0;
	char *word;

	while (field < fields + sizeof(fields) / sizeof(*fields) && strcmp(field->name, name))
		field++;
	if (field == fields + sizeof(fields) / sizeof(*fields)) {
		fprintf(stderr, "there is no field %s\n", name);
		exit(2);
	}
	at = (unsigned char *)&config + field->offset;
	while ((word = strtok_r(NULL, " \n", &values))) {
		/* Both architectures are little-endian. */
		long value = strtol(word, NULL, 0);

		if (count++ == field->count) {
			fprintf(stderr, "%s has only %zu elements\n", name, field->count);
			exit(2);
		}
		memcpy(at, &value, field->element);
		at += field->element;
	}
}

int main(int argc, char **argv)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE };
	struct node main_path, params, stats;
	static char line[1 << 14];
	unsigned int sequence = 0;
	unsigned int i;

	if (argc != 6) {
		fprintf(stderr, "usage: rkisp1-params MAINPATH PARAMS STATS WIDTH HEIGHT\n");
		return 2;
	}
	open_node(&main_path, argv[1], V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE);
	open_node(&params, argv[2], V4L2_BUF_TYPE_META_OUTPUT);
	open_node(&stats, argv[3], V4L2_BUF_TYPE_META_CAPTURE);
	format.fmt.pix_mp.width = atoi(argv[4]);
	format.fmt.pix_mp.height = atoi(argv[5]);
	format.fmt.pix_mp.pixelformat = V4L2_PIX_FMT_NV16;
	format.fmt.pix_mp.num_planes = 1;
	request(&main_path, VIDIOC_S_FMT, &format, "VIDIOC_S_FMT");
	map(&main_path);
	map(&params);
	map(&stats);
	for (i = 0; i < BUFFERS; i++) {
		queue(&main_path, i);
		queue(&stats, i);
	}
	request(&params, VIDIOC_STREAMON, &params.type, "VIDIOC_STREAMON of the parameters");
	request(&stats, VIDIOC_STREAMON, &stats.type, "VIDIOC_STREAMON of the statistics");
	request(&main_path, VIDIOC_STREAMON, &main_path.type, "VIDIOC_STREAMON of the main path");
	while (fgets(line, sizeof(line), stdin)) {
		char *rest = NULL, *word = strtok_r(line, " \n", &rest);
		struct done frame;
		int measures;
		char *file;

		if (!word)
			continue;
		if (!strcmp(word, "clear")) {
			memset(&config, 0, sizeof(config));
			continue;
		}
		measures = !strcmp(word, "measure");
		if (measures || !strcmp(word, "take")) {
			memcpy(params.memory[0], &config, sizeof(config));
			queue(&params, 0);
			sequence = wait_for(&params).sequence;
		} else if (!strcmp(word, "repeat")) {
			sequence++;
		} else {
			set(word, rest);
			continue;
		}
		file = strtok_r(NULL, " \n", &rest);
		if (!file) {
			fprintf(stderr, "%s has no file\n", word);
			return 2;
		}
		frame = wait_for_frame(&main_path, sequence);
		sequence = frame.sequence;
		write_file(file, main_path.memory[frame.index], format.fmt.pix_mp.width * format.fmt.pix_mp.height * 2);
		queue(&main_path, frame.index);
		if (measures) {
			frame = wait_for_frame(&stats, sequence);
			write_statistics(file, stats.memory[frame.index]);
			queue(&stats, frame.index);
		}
	}
	request(&main_path, VIDIOC_STREAMOFF, &main_path.type, "VIDIOC_STREAMOFF of the main path");
	request(&stats, VIDIOC_STREAMOFF, &stats.type, "VIDIOC_STREAMOFF of the statistics");
	request(&params, VIDIOC_STREAMOFF, &params.type, "VIDIOC_STREAMOFF of the parameters");
	return 0;
}
