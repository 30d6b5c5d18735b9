#include <map>

#include "parallel/comm/loopback.h"
#include "tests/support/cuda_on_host/device_memory.h"
#include "tests/trainer/step/cuda_ranks.h"

namespace jevons {
namespace {

using cuda_on_host::DeviceAccess;

// What NCCL would do between devices whose memory is the host's. A transfer keeps the memory open until it is waited for.
class HostDevices : public Communicator {
 public:
  explicit HostDevices(Communicator& host) : host_(host) {}
  explicit HostDevices(std::unique_ptr<Communicator> host) : owned_(std::move(host)), host_(*owned_) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  const std::string& name() const override { return host_.name(); }
  int NodeOf(int rank) const override { return host_.NodeOf(rank); }
  const std::shared_ptr<CallLog>& call_log() const override { return host_.call_log(); }
  void Barrier() override { host_.Barrier(); }
  void AllGather(ConstBytes send, Bytes recv) override { host_.AllGather(send, recv); }
  void AllReduceSum(std::span<int64_t> values) override { host_.AllReduceSum(values); }
  void AllReduceMax(std::span<int64_t> values) override { host_.AllReduceMax(values); }

  void AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) override {
    const auto access = AccessFor(stream);
    host_.AllGatherV(send, recv, recv_bytes);
  }
  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override {
    auto access = AccessFor(stream);
    return Begun(host_.BeginAllToAllV(Stream(), exchanges), std::move(access));
  }
  CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) override {
    auto access = AccessFor(stream);
    return Begun(host_.BeginSend(Stream(), data, peer, names), std::move(access));
  }
  CommRequest BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) override {
    auto access = AccessFor(stream);
    return Begun(host_.BeginReceive(Stream(), data, peer, names), std::move(access));
  }
  void Wait(const Stream&, CommRequest request) override {
    host_.Wait(Stream(), request);
    under_way_.erase(request.id);
  }
  void ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) override {
    const auto access = AccessFor(stream);
    host_.ReduceScatterSum(send, recv);
  }
  bool Done(const Stream&, CommRequest request) override { return host_.Done(Stream(), request); }
  void Broadcast(const Stream& stream, Bytes data, int root) override {
    const auto access = AccessFor(stream);
    host_.Broadcast(Stream(), data, root);
  }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override {
    return std::make_unique<HostDevices>(host_.Split(color, name));
  }

 private:
  using Access = std::unique_ptr<DeviceAccess>;
  static Access AccessFor(const Stream& stream) {
    return stream.device == Device::kCuda ? std::make_unique<DeviceAccess>() : nullptr;
  }
  CommRequest Begun(CommRequest request, Access access) {
    under_way_[request.id] = std::move(access);
    return request;
  }
  std::unique_ptr<Communicator> owned_;
  Communicator& host_;
  std::map<int64_t, Access> under_way_;
};

}  // namespace

int MostCudaRanks() { return 4; }
bool LibrariesArePlayed() { return true; }
void RunCudaRanks(int ranks, const std::function<void(Communicator& world)>& body) {
  RunLoopback(ranks, [&](Communicator& host) {
    HostDevices world(host);
    body(world);
  });
}

}  // namespace jevons
