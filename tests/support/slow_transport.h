// Transports that are late.
#ifndef JEVONS_TESTS_SUPPORT_SLOW_TRANSPORT_H_
#define JEVONS_TESTS_SUPPORT_SLOW_TRANSPORT_H_

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/comm/loopback.h"

namespace jevons {

// A transport like MPI at its least helpful: a message is sent when its receiver polls for it, as late as that may be
// (loopback itself keeps a send open until its receive has come). With `random`, it also takes no notice of polls and
// sleeps now and then.
class SlowTransfer : public Transfer {
 public:
  SlowTransfer(Transport& transport, std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag,
               std::mt19937* random)
      : transport_(transport), receives_(receives.begin(), receives.end()), tag_(tag), random_(random) {
    if (!sends.empty()) sent_ = transport.Start(sends, {}, tag);
  }

  absl::StatusOr<bool> Poll() override {
    if (random_ != nullptr && (*random_)() % 3 == 0) {
      if ((*random_)() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds((*random_)() % 100));
      return false;
    }
    if (received_ == nullptr && !receives_.empty()) received_ = transport_.Start({}, receives_, tag_);
    for (Transfer* part : {sent_.get(), received_.get()}) {
      if (part == nullptr) continue;
      JEVONS_ASSIGN_OR_RETURN(const bool done, part->Poll());
      if (!done) return false;
    }
    return true;
  }

  std::vector<int> MissingPeers() const override {
    std::vector<int> missing;
    if (sent_ != nullptr) missing = sent_->MissingPeers();
    if (received_ != nullptr) {
      for (const int peer : received_->MissingPeers()) missing.push_back(peer);
    } else {
      for (const Incoming& message : receives_) missing.push_back(transport_.WorldRank(message.peer));
    }
    return missing;
  }

 private:
  Transport& transport_;
  const std::vector<Incoming> receives_;
  const int64_t tag_;
  std::mt19937* const random_;
  std::unique_ptr<Transfer> sent_, received_;
};

class SlowTransport : public Transport {
 public:
  SlowTransport(std::unique_ptr<Transport> transport, std::shared_ptr<std::mt19937> random)
      : transport_(std::move(transport)), random_(std::move(random)) {}
  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  int WorldRank(int rank) const override { return transport_->WorldRank(rank); }
  int NodeOf(int rank) const override { return transport_->NodeOf(rank); }
  std::unique_ptr<Transfer> Start(std::span<const Outgoing> sends, std::span<const Incoming> receives, int64_t tag) override {
    return std::make_unique<SlowTransfer>(*transport_, sends, receives, tag, random_.get());
  }
  std::unique_ptr<Transport> MakeGroup(std::span<const int> members) override {
    return std::make_unique<SlowTransport>(transport_->MakeGroup(members), random_);
  }

 private:
  const std::unique_ptr<Transport> transport_;
  const std::shared_ptr<std::mt19937> random_;  // of one rank
};

inline WrapTransport Slow() {
  return [](std::unique_ptr<Transport> transport) { return std::make_unique<SlowTransport>(std::move(transport), nullptr); };
}
inline WrapTransport SlowAndRandom(uint32_t seed) {
  return [seed](std::unique_ptr<Transport> transport) {
    auto random = std::make_shared<std::mt19937>(seed * 64 + transport->rank());
    return std::make_unique<SlowTransport>(std::move(transport), std::move(random));
  };
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_SLOW_TRANSPORT_H_
