#include "parallel/comm/pairs.h"

#include <algorithm>
#include <chrono>
#include <span>

#include "kernels/base/check.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;
using ConstBytes = Communicator::ConstBytes;
using Bytes = Communicator::Bytes;

constexpr int kPings = 50;
constexpr int kRepeats = 3;  // of the longest message, whose fastest counts: a busy processor holds some up
constexpr int64_t kSmallest = int64_t{64} << 10, kLargest = int64_t{64} << 20;

double Since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void Send(Communicator& group, int peer, ConstBytes data) { group.Wait(group.BeginSend({}, data, peer)); }
void Receive(Communicator& group, int peer, Bytes data) { group.Wait(group.BeginReceive({}, data, peer)); }
void SendNumber(Communicator& group, int peer, int64_t number) { Send(group, peer, std::as_bytes(std::span(&number, 1))); }
int64_t ReceiveNumber(Communicator& group, int peer) {
  int64_t number = 0;
  Receive(group, peer, std::as_writable_bytes(std::span(&number, 1)));
  return number;
}

double MeasureLatency(Communicator& group, int peer) {
  std::vector<double> seconds;
  for (int i = 0; i < kPings; ++i) {
    const auto begin = Clock::now();
    SendNumber(group, peer, i);
    ReceiveNumber(group, peer);
    seconds.push_back(Since(begin));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kPings / 2, seconds.end());
  return seconds[kPings / 2] / 2;
}

void AnswerPings(Communicator& group, int peer) {
  for (int i = 0; i < kPings; ++i) SendNumber(group, peer, ReceiveNumber(group, peer));
}

// Messages that grow until one lasts long enough, each after its size and answered with 8 bytes; a size of 0 is the last.
double MeasureSending(Communicator& group, int peer, double seconds) {
  std::vector<std::byte> data(static_cast<size_t>(kSmallest));
  const auto time_one = [&] {
    SendNumber(group, peer, static_cast<int64_t>(data.size()));
    const auto begin = Clock::now();
    Send(group, peer, data);
    ReceiveNumber(group, peer);
    return Since(begin);
  };
  double lasted = time_one();
  for (auto bytes = kSmallest; lasted < seconds && bytes < kLargest; lasted = time_one()) {
    const double wanted = static_cast<double>(bytes) * std::min(8.0, 1.25 * seconds / lasted);
    bytes = std::min(kLargest, std::max(2 * bytes, static_cast<int64_t>(wanted)));
    data.resize(static_cast<size_t>(bytes));
  }
  for (int i = 1; i < kRepeats; ++i) lasted = std::min(lasted, time_one());
  SendNumber(group, peer, 0);
  return static_cast<double>(data.size()) / lasted;
}

void TakeMessages(Communicator& group, int peer) {
  std::vector<std::byte> data;
  for (int64_t bytes; (bytes = ReceiveNumber(group, peer)) > 0;) {
    data.resize(static_cast<size_t>(bytes));
    Receive(group, peer, data);
    SendNumber(group, peer, bytes);
  }
}

}  // namespace

// The circle method: the last of an even number stays, the others turn.
std::vector<int> TournamentPartners(int rank, int size) {
  const int even = size + size % 2, rounds = even - 1;
  std::vector<int> partners;
  for (int round = 0; round < rounds; ++round) {
    int partner = 0;
    if (rank == even - 1) {
      while (2 * partner % rounds != round) ++partner;
    } else {
      partner = (round - rank + rounds) % rounds;
      if (partner == rank) partner = even - 1;
    }
    partners.push_back(partner < size ? partner : -1);
  }
  return partners;
}

std::vector<PairSpeed> MeasurePairs(Communicator& group, double seconds) {
  JEVONS_CHECK(seconds > 0, "%g seconds", seconds);
  const int ranks = group.size(), self = group.rank();
  const auto peers = static_cast<size_t>(ranks);
  std::vector<double> mine(2 * peers);  // by peer: latency, which the first of a pair measures; bytes/s to it
  for (const int peer : ranks > 1 ? TournamentPartners(self, ranks) : std::vector<int>()) {
    group.Barrier();
    if (peer < 0) continue;
    const auto column = static_cast<size_t>(peer);
    if (self < peer) {
      mine[column] = MeasureLatency(group, peer);
      mine[peers + column] = MeasureSending(group, peer, seconds);
      TakeMessages(group, peer);
    } else {
      AnswerPings(group, peer);
      TakeMessages(group, peer);
      mine[peers + column] = MeasureSending(group, peer, seconds);
    }
  }
  std::vector<double> all(2 * peers * peers);
  group.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)));
  std::vector<PairSpeed> pairs;
  for (size_t first = 0; first < peers; ++first)
    for (size_t second = first + 1; second < peers; ++second)
      pairs.push_back({.first = static_cast<int>(first),
                       .second = static_cast<int>(second),
                       .latency = all[2 * peers * first + second],
                       .there = all[2 * peers * first + peers + second],
                       .back = all[2 * peers * second + peers + first]});
  return pairs;
}

std::vector<double> MeasureClockOffsets(Communicator& group, const std::function<int64_t()>& clock) {
  const auto ranks = static_cast<size_t>(group.size());
  std::vector<double> offsets(ranks);
  for (int rank = 1; rank < group.size(); ++rank) {
    if (group.rank() == rank)
      for (int i = 0; i < kPings; ++i) {
        ReceiveNumber(group, 0);
        SendNumber(group, 0, clock());
      }
    if (group.rank() > 0) continue;
    int64_t fastest = -1;
    for (int i = 0; i < kPings; ++i) {
      const int64_t sent = clock();
      SendNumber(group, rank, 0);
      const int64_t theirs = ReceiveNumber(group, rank), answered = clock();
      if (fastest >= 0 && answered - sent >= fastest) continue;
      fastest = answered - sent;
      offsets[static_cast<size_t>(rank)] = static_cast<double>(theirs - (sent + fastest / 2)) * 1e-9;
    }
  }
  group.Broadcast(std::as_writable_bytes(std::span(offsets)), 0);
  return offsets;
}

}  // namespace jevons
