// Executor: runs the list of one rank, action by action, whatever schedule it comes from.
//
//   RF, RB   ask the stage for the place, begin to receive, go on
//   SF, SB   begin to send what the stage made, go on; the stage gets the memory back when the send has ended
//   F, B, I  wait for what they read, if another rank makes it; copy it, if a stage of this rank does. Then compute
//   R, W     compute
//   G        has the stage begin to reduce its gradients, goes on
//   F&B, F&I wait for what both read, then run their phases in turn (phases.h)
//
// Sends under way to one neighbour are at most kSends: the next one waits for the oldest, and nothing else ends them before the step
// does, so that memory does not depend on timing. So a rank waits only for what
// stands before its own place in the total order in which validation ran the schedule, and no circle of waits exists,
// whether the transport buffers messages or not, also where stages wait for their neighbours in ep or dp, which run the
// same list.
//
// On the host every message says which action and how many bytes it is, and its receiver compares: a rank that runs
// another schedule ends the job at once. On a device nothing is said: the host, which alone could compare, waits for
// nothing there, and the order of messages is fixed by the list that was validated.
#ifndef JEVONS_PARALLEL_PIPELINE_EXECUTOR_H_
#define JEVONS_PARALLEL_PIPELINE_EXECUTOR_H_

#include <list>
#include <vector>

#include "kernels/tensor/stream.h"
#include "parallel/comm/communicator.h"
#include "parallel/pipeline/action.h"
#include "parallel/pipeline/stage.h"

namespace jevons {

// Sees every action when it is over: for traces and tests.
class ActionObserver {
 public:
  virtual ~ActionObserver() = default;
  // Seconds of the machine's steady clock, and how many of them it waited for messages. On a device: when the host gave the work,
  // not when it ran.
  virtual void Ran(const Action& action, double begin, double end, double waited) = 0;
};

class Executor {
 public:
  static constexpr int kSends = 2;  // under way to one neighbour at most

  // `schedule` is valid, with communication inserted, for the ranks of `pp`; `stages` has those that it puts on this
  // rank at their virtual stage, null elsewhere. All of it is checked. Stages, `pp` and `observer`, which may be null,
  // outlive the executor.
  Executor(Schedule schedule, Communicator& pp, const Stream& stream, std::vector<Stage*> stages,
           ActionObserver* observer = nullptr);

  // One step. When it returns, no message is under way and every span has been released. What G has begun, the stages know.
  void Run();

  const Schedule& schedule() const { return schedule_; }

 private:
  struct Message {
    Task task;  // of this rank: a send or a receive
    int peer;
    CommRequest request;
  };

  void Do(const Action& action);
  // Of F, B or I, when what it reads is there.
  Phases PhasesOf(const Task& task);
  void Receive(const Task& task);
  void Send(const Task& task);
  // Brings what F, B or I reads from the neighbouring stage: `receive` is the task for it, inserted or not.
  void Fetch(const Task& receive);
  void Await(const Task& receive);
  void WaitFor(CommRequest request);
  std::list<Message>::iterator EndSend(std::list<Message>::iterator send);
  void MoveOn();

  int RankOf(const Task& task) const { return schedule_.RankOf(task.stage, task.micro_batch); }
  Communicator::Bytes PlaceOf(const Task& receive);
  Communicator::ConstBytes ResultOf(const Task& send);
  void Release(const Task& send);

  const Schedule schedule_;
  Communicator& pp_;
  const Stream stream_;
  const std::vector<Stage*> stages_;
  ActionObserver* const observer_;
  std::list<Message> sends_, receives_;  // under way, in the order in which they began
  double waited_ = 0;                    // seconds, in the current action
};

}  // namespace jevons

#endif  // JEVONS_PARALLEL_PIPELINE_EXECUTOR_H_
