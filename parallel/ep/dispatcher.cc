#include "parallel/ep/dispatcher.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/base/check.h"

namespace jevons {
namespace {

std::vector<int64_t> Scaled(std::span<const int64_t> values, int64_t factor) {
  std::vector<int64_t> scaled(values.begin(), values.end());
  for (int64_t& value : scaled) value *= factor;
  return scaled;
}

std::span<std::byte> BytesOf(const Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data), static_cast<size_t>(tensor.bytes())};
}

// Calls part(first row as it arrives, rows by expert) for each segment that is not empty.
template <typename Function>
void ForSegments(const DispatchHandle& handle, Function part) {
  int64_t arrives = 0;
  for (int source = 0; source < handle.sources; ++source) {
    for (int64_t e = 0; e < handle.local_experts; ++e) {
      const Range rows = handle.Segment(e, source);
      if (!rows.empty()) part(arrives, rows);
      arrives += rows.size();
    }
  }
}

char* RowOf(const Tensor& tensor, int64_t row) {
  return static_cast<char*>(tensor.data) + row * tensor.cols() * SizeOf(tensor.dtype);
}

}  // namespace

void DispatchHandle::ByExpert(const Tensor& arrived, const Tensor& by_expert, std::vector<CopiedPart>& parts) const {
  ForSegments(*this, [&](int64_t arrives, Range rows) {
    parts.push_back({RowOf(arrived, arrives), RowOf(by_expert, rows.begin),
                     rows.size() * by_expert.cols() * SizeOf(by_expert.dtype)});
  });
}

void DispatchHandle::BySource(const Tensor& by_expert, const Tensor& leaving, std::vector<CopiedPart>& parts) const {
  ForSegments(*this, [&](int64_t leaves, Range rows) {
    parts.push_back({RowOf(by_expert, rows.begin), RowOf(leaving, leaves),
                     rows.size() * by_expert.cols() * SizeOf(by_expert.dtype)});
  });
}

Dispatcher::Dispatcher(Communicator& ep, int64_t experts, const Stream& stream, double load)
    : ep_(ep),
      experts_(experts),
      stream_(stream),
      load_(load),
      local_(BlockOf(experts, ep.size(), ep.rank())),
      host_counts_(std::make_unique<Staging>(stream.device, experts * static_cast<int64_t>(sizeof(int64_t)))),
      counts_are_there_(stream.device) {
  JEVONS_CHECK(experts > 0, "%lld experts", static_cast<long long>(experts));
}

DispatchHandle Dispatcher::PlanByLoad(int64_t rows) const {
  const int ranks = ep_.size();
  DispatchHandle handle;
  handle.send_rows = rows;
  handle.local_experts = local_.size();
  handle.sources = ranks;
  const auto part_of = [rows, this](Range experts) {  // of the rows of one rank
    return rows * experts.end / experts_ - rows * experts.begin / experts_;
  };
  for (int r = 0; r < ranks; ++r) handle.send_rows_to.push_back(part_of(BlockOf(experts_, ranks, r)));
  // At most all of them; where one rank has all experts, no more and no less.
  const auto loaded = static_cast<int64_t>(std::ceil(load_ * static_cast<double>(ranks * part_of(local_))));
  const int64_t arriving = ranks == 1 ? rows : std::min(loaded, ranks * rows);
  const int64_t segments = local_.size() * ranks;
  for (int64_t i = 0; i <= segments; ++i) handle.segment_offsets.push_back(segments == 0 ? 0 : arriving * i / segments);
  handle.receive_rows_from.assign(static_cast<size_t>(ranks), 0);
  for (int64_t e = 0; e < local_.size(); ++e)
    for (int source = 0; source < ranks; ++source) handle.receive_rows_from[static_cast<size_t>(source)] += handle.Segment(e, source).size();
  handle.receive_rows = handle.segment_offsets.back();
  return handle;
}

void Dispatcher::BeginPlan(const Tensor& counts, int64_t rows) {
  JEVONS_CHECK(counts.size() == experts_ && counts.contiguous(), "counts %s for %lld experts",
               counts.ToString().c_str(), static_cast<long long>(experts_));
  JEVONS_CHECK(!std::exchange(planning_, true), "a plan is under way");
  planned_rows_ = rows;
  if (stream_.device == Device::kNone) return;
  CopyBytes(stream_, counts.data, host_counts_->data(), counts.bytes());
  counts_are_there_.Record(stream_);
  if (stream_.device == Device::kCpu) BeginCounts();
}

void Dispatcher::BeginCounts() {
  const std::span counts(static_cast<const int64_t*>(host_counts_->data()), static_cast<size_t>(experts_));
  const int ranks = ep_.size();
  planned_ = {};
  planned_.local_experts = local_.size();
  planned_.sources = ranks;
  planned_.send_rows_to.resize(ranks);
  planned_.receive_rows_from.resize(ranks);
  std::vector<int64_t> send_counts(ranks);  // how many counts, not rows: those of the other rank's experts
  for (int r = 0; r < ranks; ++r) {
    const Range owned = BlockOf(experts_, ranks, r);
    send_counts[r] = owned.size();
    for (int64_t e = owned.begin; e < owned.end; ++e) {
      JEVONS_CHECK(counts[e] >= 0, "%lld rows for expert %lld", static_cast<long long>(counts[e]),
                   static_cast<long long>(e));
      planned_.send_rows_to[r] += counts[e];
    }
    planned_.send_rows += planned_.send_rows_to[r];
  }
  received_.assign(ranks * local_.size(), 0);
  counts_request_ = ep_.BeginAllToAllV(std::as_bytes(counts), Scaled(send_counts, sizeof(int64_t)),
                                       std::as_writable_bytes(std::span(received_)),
                                       std::vector<int64_t>(ranks, local_.size() * static_cast<int64_t>(sizeof(int64_t))));
}

DispatchHandle Dispatcher::FinishPlan() {
  JEVONS_CHECK(std::exchange(planning_, false), "no plan is under way");
  if (stream_.device == Device::kNone) return PlanByLoad(planned_rows_);
  if (stream_.device == Device::kCuda) {
    counts_are_there_.Synchronize();
    ++count_reads_;
    BeginCounts();
  }
  ep_.Wait(counts_request_);
  DispatchHandle handle = std::move(planned_);
  JEVONS_CHECK(handle.send_rows == planned_rows_, "counts of %lld rows, where %lld are sent", static_cast<long long>(handle.send_rows),
               static_cast<long long>(planned_rows_));
  handle.segment_offsets.reserve(received_.size() + 1);
  handle.segment_offsets.push_back(0);
  for (int64_t e = 0; e < local_.size(); ++e) {
    for (int source = 0; source < handle.sources; ++source) {
      const int64_t rows = received_[source * local_.size() + e];
      handle.receive_rows_from[source] += rows;
      handle.receive_rows += rows;
      handle.segment_offsets.push_back(handle.receive_rows);
    }
  }
  return handle;
}

CommRequest Dispatcher::BeginDispatch(const DispatchHandle& handle, const Tensor& send,
                                      const Tensor& receive) {
  JEVONS_CHECK(send.rows() == handle.send_rows && receive.rows() == handle.receive_rows, "dispatch %s -> %s",
               send.ToString().c_str(), receive.ToString().c_str());
  return Begin(handle.send_rows_to, handle.receive_rows_from, send, receive, bytes_sent_.dispatch);
}

CommRequest Dispatcher::BeginCombine(const DispatchHandle& handle, const Tensor& send,
                                     const Tensor& receive) {
  JEVONS_CHECK(send.rows() == handle.receive_rows && receive.rows() == handle.send_rows, "combine %s -> %s",
               send.ToString().c_str(), receive.ToString().c_str());
  return Begin(handle.receive_rows_from, handle.send_rows_to, send, receive, bytes_sent_.combine);
}

CommRequest Dispatcher::Begin(std::span<const int64_t> send_rows, std::span<const int64_t> receive_rows,
                              const Tensor& send, const Tensor& receive, int64_t& bytes_sent) {
  JEVONS_CHECK(send.contiguous() && receive.contiguous() && send.dtype == receive.dtype &&
                   send.cols() == receive.cols(),
               "exchange of %s and %s", send.ToString().c_str(), receive.ToString().c_str());
  const int64_t row_bytes = send.cols() * SizeOf(send.dtype);
  const std::vector<int64_t> send_bytes = Scaled(send_rows, row_bytes);
  bytes_sent += send.bytes() - send_bytes[ep_.rank()];
  return ep_.BeginAllToAllV(stream_, BytesOf(send), send_bytes, BytesOf(receive),
                            Scaled(receive_rows, row_bytes));
}

void Dispatcher::Finish(CommRequest request) { ep_.Wait(stream_, request); }

}  // namespace jevons
