# The demo's script in the guest. It writes its files to /out.
set -e -o pipefail

cat /proc/meminfo > /out/meminfo

v4l2-ctl -d /dev/video0 --set-fmt-video=width=640,height=480,pixelformat=RGB3 \
    --stream-mmap=4 --stream-count=30 --stream-to=- 2> /out/v4l2-ctl.log | {
    dd bs=921600 count=15 iflag=fullblock 2> /dev/null > /out/frames.raw

    # This runs in the middle of streaming: v4l2-ctl waits until this end of the pipe reads more.
    for window in /sys/kernel/debug/cma/*; do
        copy=/out/cma/${window##*/}
        mkdir -p "$copy"
        for file in base_pfn count order_per_bit bitmap used maxchunk; do
            cat "$window/$file" > "$copy/$file"
        done
    done
    mkdir /out/camera
    for file in buffers counters; do
        cat /sys/kernel/debug/minivmm-camera/*/$file > /out/camera/$file
    done

    cat >> /out/frames.raw
}

dmesg > /out/dmesg
