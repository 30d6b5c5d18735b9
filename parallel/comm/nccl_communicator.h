// The communicator over NCCL (nccl.h), for whoever brings the library: NcclLibrary(), or a stand-in in tests.
//
// Each transfer runs on the communicator's own stream, between two events:
//
//   compute stream:  ... work | ready ............... (other work) ............ Wait | work that reads what came
//   own stream:                 waits for ready | own part, sends, receives | done
//
// so neither the host nor the compute stream waits before it must. A group of one has no NCCL communicator: its own
// part is copied on the compute stream.
#ifndef JEVONS_PARALLEL_COMM_NCCL_COMMUNICATOR_H_
#define JEVONS_PARALLEL_COMM_NCCL_COMMUNICATOR_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tensor/device.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/exchange_plan.h"
#include "parallel/comm/nccl_watch.h"

namespace jevons {

struct NcclOptions {
  bool shared_gpu = false;  // JEVONS_SHARED_GPU
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(NcclApi& api, std::unique_ptr<Communicator> host, const NcclOptions& options);
  ~NcclCommunicator() override;

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const std::string& name() const override { return host_->name(); }
  int NodeOf(int rank) const override { return host_->NodeOf(rank); }
  const std::shared_ptr<CallLog>& call_log() const override { return host_->call_log(); }

  void Barrier() override { host_->Barrier(); }
  void AllGather(ConstBytes send, Bytes recv) override { host_->AllGather(send, recv); }
  void AllReduceSum(std::span<int64_t> values) override { host_->AllReduceSum(values); }
  void AllReduceMax(std::span<int64_t> values) override { host_->AllReduceMax(values); }

  void AllGatherV(const Stream& stream, ConstBytes send, Bytes recv, Sizes recv_bytes) override;
  CommRequest BeginAllToAllV(const Stream& stream, std::span<const Exchange> exchanges) override;
  CommRequest BeginSend(const Stream& stream, ConstBytes data, int peer, const MessageNames& names) override;
  CommRequest BeginReceive(const Stream& stream, Bytes data, int peer, const MessageNames& names) override;
  void ReduceScatterSum(const Stream& stream, std::span<const int64_t> send, std::span<int64_t> recv) override;
  void Broadcast(const Stream& stream, Bytes data, int root) override;
  void Wait(const Stream& stream, CommRequest request) override;
  bool Done(const Stream& stream, CommRequest request) override;

  std::unique_ptr<Communicator> Split(int color, const std::string& name) override;

 private:
  // The NCCL calls of one group.
  using Enqueue = std::function<void(const CallLog::Call& call)>;
  struct Copy {  // of the part that stays
    const void* from = nullptr;
    void* to = nullptr;
    int64_t bytes = 0;
  };
  static Copy OwnPart(const ExchangePlan& plan, ConstBytes send, Bytes recv);

  void Connect();
  using Open = std::map<int64_t, std::shared_ptr<DeviceCall>>;
  Open::iterator Find(CommRequest request);
  // A transfer: the own parts, then what `enqueue` asks of NCCL; nothing where nothing travels.
  CommRequest Begin(const Stream& stream, const CallLog::Call& call, const std::string& peers, const std::vector<Copy>& own,
                    const Enqueue& enqueue);
  CommRequest BeginMessage(const Stream& stream, const char* kind, int64_t bytes, int peer, const MessageNames& names,
                           const Enqueue& enqueue);
  CallLog::Call NextCall(const char* kind, size_t bytes);
  void RunGroup(const CallLog::Call& call, const Enqueue& enqueue);
  // Ends the job unless the call succeeded; kInProgress is awaited, under the watchdog.
  void Check(const CallLog::Call& call, const char* function, NcclApi::Result result);
  void Await(const CallLog::Call& call, const char* function, NcclApi::Result result);
  [[noreturn]] void Fail(const CallLog::Call& call, const std::string& reason);

  NcclApi& api_;
  const std::unique_ptr<Communicator> host_;
  const NcclOptions options_;
  const std::string nccl_name_;  // "jevons.ep", for NCCL's log
  OwnedStream stream_{Device::kCuda};
  NcclApi::Comm comm_ = nullptr;      // null in a group of one, as
  std::unique_ptr<NcclWatch> watch_;  // is this
  int64_t sequence_ = 0;              // of the calls of the whole group
  int64_t messages_ = 0, next_request_ = 0;
  // By request: begun and not yet waited for; null in a group of one.
  Open open_;
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_NCCL_COMMUNICATOR_H_
