/* SPDX-License-Identifier: Apache-2.0 */
/* Runs in a Linux guest: queues buffers of parameters, valid or not, one after another.
 *   mcam-params PARAMETERS, where PARAMETERS is a node such as /dev/video3
 * A buffer is a line of hexadecimal digits on standard input. Another program streams the camera's frames. It prints a line
 * for each buffer: "refused ERRNO" if it was not queued, "taken", or "wrong REASON TYPE BLOCK OFFSET" from the event. */
#include "metadata.h"

static unsigned int digits(const char *text, unsigned char *bytes, unsigned int room)
{
	unsigned int count = 0;

	while (count < room && sscanf(text, "%2hhx", &bytes[count]) == 1) {
		text += 2;
		count++;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct v4l2_event_subscription subscription = { .type = V4L2_EVENT_MINIVMM_PARAMS_ERROR };
	static char line[2 * MINIVMM_PARAMS_MAX_SIZE + 16];
	struct v4l2_buffer buffer;
	struct node params;

	if (argc != 2) {
		fprintf(stderr, "usage: mcam-params PARAMETERS\n");
		return 2;
	}
	open_node(&params, argv[1], V4L2_BUF_TYPE_META_OUTPUT);
	request(&params, VIDIOC_SUBSCRIBE_EVENT, &subscription, "VIDIOC_SUBSCRIBE_EVENT");
	request(&params, VIDIOC_STREAMON, &params.type, "VIDIOC_STREAMON");
	while (fgets(line, sizeof(line), stdin)) {
		struct v4l2_event event = {};
		struct minivmm_params_error *error = (void *)event.u.data;
		unsigned int bytes = digits(line, params.memory[0], MINIVMM_PARAMS_MAX_SIZE);

		if (queue(&params, 0, bytes)) {
			printf("refused %d\n", errno);
			continue;
		}
		wait_for(&params, &buffer);
		if (!(buffer.flags & V4L2_BUF_FLAG_ERROR)) {
			printf("taken\n");
			continue;
		}
		request(&params, VIDIOC_DQEVENT, &event, "VIDIOC_DQEVENT");
		if (error->sequence != buffer.sequence || event.pending) {
			fprintf(stderr, "the event is of buffer %u, not of %u\n", error->sequence, buffer.sequence);
			return 1;
		}
		printf("wrong %u %u %u %u\n", error->reason, error->type, error->block, error->offset);
	}
	request(&params, VIDIOC_STREAMOFF, &params.type, "VIDIOC_STREAMOFF");
	return 0;
}
