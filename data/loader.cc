#include "data/loader.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status.h"

namespace jevons {

Loader::Loader(SampleStream stream) : stream_(std::move(stream)) {
  for (size_t i = 0; i < kBuffers; ++i) free_.push_back(std::make_unique<SampleBatch>());
  thread_ = std::thread([this] { Run(); });
}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    ++generation_;  // ends a Fill under way
  }
  work_.notify_one();
  thread_.join();
}

void Loader::Request(int64_t first, int64_t count) {
  JEVONS_CHECK(count >= 0);
  {
    std::lock_guard lock(mutex_);
    requests_.push_back({first, count});
    ++unanswered_;
  }
  work_.notify_one();
}

absl::StatusOr<const SampleBatch*> Loader::Next() {
  std::unique_lock lock(mutex_);
  if (current_ != nullptr) {
    free_.push_back(std::move(current_));
    work_.notify_one();
  }
  if (unanswered_ == 0) return FailureError("Loader::Next without a Request");
  ready_.wait(lock, [this] { return !batches_.empty() || !error_.ok(); });
  if (batches_.empty()) return error_;
  --unanswered_;
  current_ = std::move(batches_.front());
  batches_.pop_front();
  return current_.get();
}

void Loader::Cancel() {
  std::lock_guard lock(mutex_);
  ++generation_;
  unanswered_ = 0;
  requests_.clear();
  for (std::unique_ptr<SampleBatch>& batch : batches_) free_.push_back(std::move(batch));
  batches_.clear();
  if (current_ != nullptr) free_.push_back(std::move(current_));
}

void Loader::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || (!requests_.empty() && !free_.empty()); });
    if (stop_) return;
    const Pending request = requests_.front();
    const uint64_t generation = generation_;
    std::unique_ptr<SampleBatch> batch = std::move(free_.back());
    requests_.pop_front();
    free_.pop_back();
    lock.unlock();
    const absl::Status status = Fill(request, generation, *batch);
    lock.lock();
    if (generation != generation_) {
      free_.push_back(std::move(batch));
      continue;
    }
    if (status.ok()) {
      batches_.push_back(std::move(batch));
    } else {
      error_ = status;
    }
    ready_.notify_one();
    if (!status.ok()) return;
  }
}

absl::Status Loader::Fill(const Pending& request, uint64_t generation, SampleBatch& batch) {
  const auto seq_len = static_cast<size_t>(stream_.LengthOf(request.first));
  const size_t masked = stream_.config().document_mask ? seq_len : 0;
  const auto count = static_cast<size_t>(request.count);
  batch.first = request.first;
  batch.count = request.count;
  batch.tokens.resize(count * (seq_len + 1));
  batch.document_start.resize(count * masked);
  for (size_t i = 0; i < count; ++i) {
    if (std::lock_guard lock(mutex_); generation != generation_) break;
    JEVONS_RETURN_IF_ERROR(stream_.Read(request.first + static_cast<int64_t>(i),
                                        std::span(batch.tokens).subspan(i * (seq_len + 1), seq_len + 1),
                                        std::span(batch.document_start).subspan(i * masked, masked)));
  }
  return absl::OkStatus();
}

}  // namespace jevons
