// A group that a test listens to: passes everything on, for a derived class to override what it wants to see.
#ifndef JEVONS_TESTS_SUPPORT_WATCHED_GROUP_H_
#define JEVONS_TESTS_SUPPORT_WATCHED_GROUP_H_

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace jevons {

class WatchedGroup : public Communicator {
 public:
  explicit WatchedGroup(Communicator& group) : group_(group) {}

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  const std::string& name() const override { return group_.name(); }
  int NodeOf(int rank) const override { return group_.NodeOf(rank); }
  void Barrier() override { group_.Barrier(); }
  void AllGather(ConstBytes send, Bytes recv) override { group_.AllGather(send, recv); }
  void AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) override {
    group_.AllGatherV(stream, send, recv, recv_bytes);
  }
  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override {
    return group_.BeginAllToAllV(stream, exchanges);
  }
  CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) override {
    return group_.BeginSend(stream, data, peer, names);
  }
  CommRequest BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) override {
    return group_.BeginReceive(stream, data, peer, names);
  }
  void Wait(const Stream& stream, CommRequest request) override { group_.Wait(stream, request); }
  bool Done(const Stream& stream, CommRequest request) override { return group_.Done(stream, request); }
  void MoveInBackground() override { group_.MoveInBackground(); }
  void AllReduceSum(std::span<int64_t> values) override { group_.AllReduceSum(values); }
  void AllReduceMax(std::span<int64_t> values) override { group_.AllReduceMax(values); }
  void ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) override {
    group_.ReduceScatterSum(stream, send, recv);
  }
  void Broadcast(const Stream& stream, Bytes data, int root) override { group_.Broadcast(stream, data, root); }
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override { return group_.Split(color, name); }
  const std::shared_ptr<CallLog>& call_log() const override { return group_.call_log(); }

 private:
  Communicator& group_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_WATCHED_GROUP_H_
