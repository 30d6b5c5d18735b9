// The collectives, over any Transport that carries messages.
//
// All-to-all, gathers and reduce-scatters send each part straight to its reader: every byte travels once. Sums and
// maxima that all ranks get and broadcasts go along a binomial tree, barriers by dissemination: log2(size) rounds. Use one communicator
// from one thread at a time: its own, in the background, touches nothing but transfers that are under way.
#ifndef JEVONS_PARALLEL_COMM_MESSAGE_COMMUNICATOR_H_
#define JEVONS_PARALLEL_COMM_MESSAGE_COMMUNICATOR_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/comm/transport.h"
#include "parallel/comm/watchdog.h"

namespace jevons {

class MessageCommunicator : public Communicator {
 public:
  // `log` is shared by the communicators of one rank.
  MessageCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<CallLog> log, std::string name);
  ~MessageCommunicator() override;

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  const std::string& name() const override { return name_; }
  int NodeOf(int rank) const override { return transport_->NodeOf(rank); }

  void Barrier() override;
  void AllGather(ConstBytes send, Bytes recv) override;
  void AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) override;
  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override;
  CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) override;
  CommRequest BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) override;
  void Wait(const Stream& stream, CommRequest request) override;
  bool Done(const Stream& stream, CommRequest request) override;
  void MoveInBackground() override;
  void AllReduceSum(std::span<int64_t> values) override;
  void AllReduceMax(std::span<int64_t> values) override;
  void ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) override;
  void Broadcast(const Stream& stream, Bytes data, int root) override;
  std::unique_ptr<Communicator> Split(int color, const std::string& name) override;
  const std::shared_ptr<CallLog>& call_log() const override { return log_; }

 private:
  struct OpenCall {
    CallLog::Call call;
    int64_t log_id = 0;
    int64_t tag = 0;
    std::unique_ptr<Transfer> transfer;  // of a call that Wait ends; null where nothing had to travel
  };
  OpenCall Enter(const char* kind, int64_t bytes);
  void ExpectHost(const Stream& stream) const;
  CommRequest KeepOpen(OpenCall call);
  // The next message to or from `peer`, numbered by `count` on both sides.
  OpenCall EnterMessage(const char* kind, int64_t bytes, int peer, const MessageNames& names, std::vector<int64_t>& count);
  void Leave(const OpenCall& call) { log_->Leave(call.log_id); }
  // What follows, to PollAll, with `mutex_` held.
  const OpenCall& Find(CommRequest request) const;
  bool Poll(const OpenCall& call, Transfer& transfer);
  // MPI takes a message in only while its receiver polls: whoever polls, polls for all that is under way. So a rank that
  // waits for its sends to be taken never waits for one that took no notice of them. Returns whether all are done.
  bool PollAll();
  void Background();
  void Finish(const OpenCall& call, Transfer& transfer);  // waits, under the watchdog

  // One message of a tree or dissemination round; blocks.
  void Send(const OpenCall& call, int peer, std::span<const std::byte> data);
  void Receive(const OpenCall& call, int peer, std::span<std::byte> data);
  void GatherParts(const char* kind, ConstBytes send, Bytes recv, Sizes recv_bytes);
  template <typename Combine>
  void AllReduce(const char* kind, std::span<int64_t> values, Combine combine);
  void BroadcastTree(const OpenCall& call, std::span<std::byte> data, int root);

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<CallLog> log_;
  std::string name_;
  int64_t sequence_ = 0;
  std::vector<int64_t> sent_, received_;  // [size] messages to and from each rank
  int64_t next_request_ = 0;
  std::mutex mutex_;                  // on open_, and on the transfers in it
  std::map<int64_t, OpenCall> open_;  // by request: begun and not yet waited for
  std::condition_variable changed_;   // something has begun, or all ends
  bool ends_ = false;
  std::thread background_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_MESSAGE_COMMUNICATOR_H_
