/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: a control loop for exposure and white balance, with the ISP's statistics and parameters.
 *   mcam-3a STATISTICS PARAMETERS FRAMES, where the first two are nodes such as /dev/video2 and /dev/video3
 * Another program streams the camera's frames. For each frame with statistics it prints a line: its number,
 * the mean red, green and blue of the sensor in linear values, the gains for the next frame, and the digital gain.
 * The algorithm is that of the camera's auto=yes (devices/media/src/auto.rs): it assumes that the mean colour of the scene is a
 * middle grey. Each frame corrects half of the difference. */
#include "metadata.h"

/* 18 % of white. */
#define MIDDLE_GREY (16383 * 0.18)
/* The limits of a gain of 16 bits in steps of 1/16384, with a small margin. */
#define GAIN_MAX 3.9
#define DIGITAL_GAIN_MAX 4.0
/* The minimum number of quads for a correction. */
#define QUADS_MIN 64

struct blocks {
	struct minivmm_params_awb_range range;
	struct minivmm_params_white_balance balance;
	struct minivmm_params_digital_gain digital;
};

static struct minivmm_params_block_header header(unsigned short type, unsigned int size)
{
	return (struct minivmm_params_block_header){ .type = type, .size = size };
}

/* Fills a buffer with parameters for these gains of red, green and blue. Returns its size in bytes. */
static unsigned int fill(struct minivmm_params_buffer *buffer, const double gains[3])
{
	struct blocks blocks = {
		.range = { header(MINIVMM_PARAMS_BLOCK_AWB_RANGE, sizeof(blocks.range)), .min = 64, .max = 14000 },
		.balance = { header(MINIVMM_PARAMS_BLOCK_WHITE_BALANCE, sizeof(blocks.balance)) },
		.digital = { header(MINIVMM_PARAMS_BLOCK_DIGITAL_GAIN, sizeof(blocks.digital)) },
	};
	double most = gains[0], digital;
	int i;

	for (i = 1; i < 3; i++)
		most = gains[i] > most ? gains[i] : most;
	/* The digital gain supplies what exceeds the limits of the channels' gains. */
	digital = most / GAIN_MAX;
	digital = digital < 1 ? 1 : digital > DIGITAL_GAIN_MAX ? DIGITAL_GAIN_MAX : digital;
	for (i = 0; i < 4; i++) {
		double gain = gains[(i + 1) / 2] / digital;

		blocks.balance.gain[i] = (gain > GAIN_MAX ? GAIN_MAX : gain) * 16384;
	}
	blocks.digital.gain = digital * 256;
	buffer->version = MINIVMM_PARAMS_VERSION;
	buffer->data_size = sizeof(blocks);
	memcpy(buffer->data, &blocks, sizeof(blocks));
	printf(", gains %.2f %.2f %.2f, digital %.2f\n", gains[0] / digital, gains[1] / digital, gains[2] / digital,
	       digital);
	return sizeof(*buffer) + sizeof(blocks);
}

/* Moves the gains towards those that the statistics require. */
static void follow(const struct minivmm_stats_buffer *statistics, double gains[3])
{
	const struct minivmm_stats_zone *zone = &statistics->zone[0][0];
	double sums[3] = { 0, 0, 0 }, quads = 0;
	unsigned int i, channel;

	for (i = 0; i < sizeof(statistics->zone) / sizeof(*zone); i++) {
		quads += zone[i].balanced_quads;
		for (channel = 0; channel < 3; channel++)
			sums[channel] += zone[i].balanced[channel];
	}
	printf("frame %u", statistics->sequence);
	for (channel = 0; channel < 3; channel++) {
		double mean = quads ? sums[channel] / quads : 0;

		printf("%s %.0f", channel ? "" : " mean", mean);
		if (quads >= QUADS_MIN && mean >= 1)
			gains[channel] += (MIDDLE_GREY / mean - gains[channel]) / 2;
	}
}

int main(int argc, char **argv)
{
	struct node statistics, params;
	unsigned int idle[BUFFERS], num_idle, frames, i;
	struct v4l2_buffer buffer;
	/* The first statistics have the initial settings of the ISP. */
	double gains[3];

	if (argc != 4 || !(frames = strtoul(argv[3], NULL, 10))) {
		fprintf(stderr, "usage: mcam-3a STATISTICS PARAMETERS FRAMES\n");
		return 2;
	}
	open_node(&statistics, argv[1], V4L2_BUF_TYPE_META_CAPTURE);
	open_node(&params, argv[2], V4L2_BUF_TYPE_META_OUTPUT);
	for (i = 0; i < BUFFERS; i++) {
		if (queue(&statistics, i, 0))
			fail("VIDIOC_QBUF");
		idle[i] = i;
	}
	num_idle = BUFFERS;
	request(&params, VIDIOC_STREAMON, &params.type, "VIDIOC_STREAMON");
	request(&statistics, VIDIOC_STREAMON, &statistics.type, "VIDIOC_STREAMON");
	for (i = 0; i < frames; i++) {
		const struct minivmm_stats_buffer *measured;

		wait_for(&statistics, &buffer);
		measured = statistics.memory[buffer.index];
		if (buffer.flags & V4L2_BUF_FLAG_ERROR || measured->version != MINIVMM_STATS_VERSION) {
			fprintf(stderr, "frame %u has no statistics\n", buffer.sequence);
			return 1;
		}
		if (!i) {
			gains[0] = measured->white_balance[0] / 16384.0;
			gains[1] = measured->white_balance[1] / 16384.0;
			gains[2] = measured->white_balance[3] / 16384.0;
		}
		follow(measured, gains);
		if (queue(&statistics, buffer.index, 0))
			fail("VIDIOC_QBUF");
		while (dequeue(&params, &buffer)) {
			if (buffer.flags & V4L2_BUF_FLAG_ERROR) {
				fprintf(stderr, "the parameters for frame %u were not taken\n", buffer.sequence);
				return 1;
			}
			idle[num_idle++] = buffer.index;
		}
		/* All buffers of parameters are queued. The next frame tries again. */
		if (!num_idle) {
			printf("\n");
			continue;
		}
		num_idle--;
		if (queue(&params, idle[num_idle], fill(params.memory[idle[num_idle]], gains)))
			fail("VIDIOC_QBUF");
	}
	request(&statistics, VIDIOC_STREAMOFF, &statistics.type, "VIDIOC_STREAMOFF");
	request(&params, VIDIOC_STREAMOFF, &params.type, "VIDIOC_STREAMOFF");
	return 0;
}
