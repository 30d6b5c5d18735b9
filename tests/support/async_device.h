// A stand-in for the CUDA backend in programs that test the order of work on streams: a stream is a thread that does
// what it is given, one thing after the other, some time later; "device" memory is the host's. Reading something before
// its stream has written it gives other bytes, as on a device. Link async_device.cc in place of the backend.
#ifndef JEVONS_TESTS_SUPPORT_ASYNC_DEVICE_H_
#define JEVONS_TESTS_SUPPORT_ASYNC_DEVICE_H_

#include <functional>

namespace jevons {

// Gives the stream (its handle) some work.
void EnqueueOnStream(void* stream, std::function<void()> work);

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_ASYNC_DEVICE_H_
