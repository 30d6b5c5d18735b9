#include "parallel/ep/row_exchange.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "kernels/base/check.h"
#include "parallel/comm/watchdog.h"
#include "parallel/hash.h"

namespace jevons {

struct RowExchange::Request::Check {
  std::vector<std::vector<std::span<const std::byte>>> parts;  // [ranks] what comes from each
  std::vector<int64_t> sizes;                                  // [ranks] 8
  std::vector<uint64_t> sent, received;                        // [ranks]
  CommRequest hashes = {};
};

RowExchange::RowExchange(Communicator& group, std::vector<Peer> peers, const Stream& stream, bool verify)
    : group_(group), peers_(std::move(peers)), stream_(stream), verify_(verify) {
  JEVONS_CHECK(static_cast<int>(peers_.size()) == group.size(), "%zu peers of a group of %d", peers_.size(), group.size());
}

RowExchange::Request RowExchange::Begin(std::span<const Move> moves, LinkTraffic& traffic) {
  const auto ranks = static_cast<size_t>(group_.size()), self = static_cast<size_t>(group_.rank());
  std::vector<std::vector<int64_t>> sizes;  // in bytes: to, from, to, from, ...
  sizes.reserve(2 * moves.size());
  std::vector<Exchange> exchanges;
  for (const auto& [send, receive, to, from] : moves) {
    JEVONS_CHECK(send.contiguous() && receive.contiguous() && send.dtype == receive.dtype && send.cols() == receive.cols(),
                 "exchange of %s and %s", send.ToString().c_str(), receive.ToString().c_str());
    const int64_t row_bytes = send.cols() * SizeOf(send.dtype);
    for (const std::span<const int64_t> rows : {to, from}) {
      std::vector<int64_t>& bytes = sizes.emplace_back(rows.begin(), rows.end());
      for (int64_t& size : bytes) size *= row_bytes;
    }
    exchanges.push_back({{static_cast<const std::byte*>(send.data), static_cast<size_t>(send.bytes())},
                         sizes[sizes.size() - 2],
                         {static_cast<std::byte*>(receive.data), static_cast<size_t>(receive.bytes())},
                         sizes.back()});
    for (size_t r = 0; r < ranks; ++r) {
      if (r == self) continue;
      (peers_[r].on_other_node ? traffic.network_bytes : traffic.local_bytes) += to[r] * row_bytes;
      if (exchanges.size() == 1) (peers_[r].on_other_node ? traffic.network_rows : traffic.local_rows) += to[r];
    }
  }
  Request request;
  request.rows = group_.BeginAllToAllV(stream_, exchanges);
  if (!verify_ || stream_.device == Device::kNone) return request;
  request.check = std::make_shared<Request::Check>();
  Request::Check& check = *request.check;
  check.parts.resize(ranks);
  check.sizes.assign(ranks, sizeof(uint64_t));
  check.sent.assign(ranks, 0);
  check.received.assign(ranks, 0);
  for (const Exchange& exchange : exchanges) {
    size_t sent = 0, received = 0;
    for (size_t r = 0; r < ranks; ++r) {
      const auto out = static_cast<size_t>(exchange.send_bytes[r]), in = static_cast<size_t>(exchange.recv_bytes[r]);
      check.sent[r] = HashOf(stream_, exchange.send.subspan(std::exchange(sent, sent + out), out), check.sent[r]);
      check.parts[r].push_back(exchange.recv.subspan(std::exchange(received, received + in), in));
    }
  }
  check.hashes = group_.BeginAllToAllV(std::as_bytes(std::span(check.sent)), check.sizes,
                                       std::as_writable_bytes(std::span(check.received)), check.sizes);
  return request;
}

void RowExchange::Finish(Request& request) {
  group_.Wait(stream_, request.rows);
  if (request.check == nullptr) return;
  const Request::Check& check = *request.check;
  group_.Wait(check.hashes);
  for (size_t r = 0; r < peers_.size(); ++r) {
    uint64_t hash = 0;
    for (const std::span<const std::byte> part : check.parts[r]) hash = HashOf(stream_, part, hash);
    if (hash == check.received[r]) continue;
    group_.call_log()->Die({.group = group_.name(), .kind = "AllToAllV", .sequence = request.rows.id, .bytes = 0},
                           absl::StrFormat("what came from ep rank %d was damaged on its way: hash %016x, sent was %016x",
                                           peers_[r].ep_rank, hash, check.received[r]));
  }
  request.check.reset();
}

}  // namespace jevons
