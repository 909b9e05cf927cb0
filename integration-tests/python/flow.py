"""Submits a task, watches it, and does one of its steps, with modules made from proto/ alone.

Argument: the gateway's address. Prints one JSON object with what it has seen.
"""

import json
import queue
import sys
import threading

import grpc
from tasker.v1 import (
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
    payload_pb2,
    step_pb2,
)

TEMPLATE = """
namespace: polyglot
name: greeting
version: 1.0.0
steps:
  - name: greet
    type: decision
    handler: {callable: python.greet}
  - name: exclaim
    handler: {callable: rust.exclaim}
    dependencies: [greet]
  - name: whisper
    handler: {callable: rust.whisper}
    dependencies: [greet]
"""

DEADLINE_SECONDS = 60


def main(address):
    with grpc.insecure_channel(address) as channel:
        templates = template_service_pb2_grpc.TemplateServiceStub(channel)
        templates.RegisterTemplate(
            template_service_pb2.RegisterTemplateRequest(yaml=TEMPLATE), timeout=DEADLINE_SECONDS
        )
        tasks = task_service_pb2_grpc.TaskServiceStub(channel)
        created = tasks.CreateTask(
            task_service_pb2.CreateTaskRequest(
                template=task_pb2.TemplateRef(namespace="polyglot", name="greeting"),
                context=payload_pb2.Payload(data=json.dumps({"name": "Ada"}).encode()),
            ),
            timeout=DEADLINE_SECONDS,
        )
        told = {"task_id": created.task_id}
        watching = threading.Thread(target=watch, args=(tasks, created.task_id, told))
        watching.start()
        work(worker_service_pb2_grpc.WorkerServiceStub(channel), told)
        watching.join()
        print(json.dumps(told))


def watch(tasks, task_id, told):
    """Notes which steps complete, and where the task ends."""
    told["completed"] = []
    request = task_service_pb2.WatchTaskRequest(task_id=task_id)
    for event in tasks.WatchTask(request, timeout=DEADLINE_SECONDS):
        if event.WhichOneof("transition") == "task":
            told["state"] = task_pb2.TaskState.Name(event.task.state)
        elif event.step.state == step_pb2.STEP_STATE_COMPLETE:
            told["completed"].append(event.step.step_name)


def work(worker, told):
    """Does one step over the stream."""
    outgoing = queue.Queue()
    send = outgoing.put
    send(
        worker_service_pb2.WorkRequest(
            hello=worker_service_pb2.Hello(
                worker_id="python",
                sdk="none",
                protocol_version=1,
                namespaces=["polyglot"],
                handlers=["python.greet"],
                credit=1,
            )
        )
    )
    # The stream of requests ends with `None`.
    responses = worker.Work(iter(outgoing.get, None), timeout=DEADLINE_SECONDS)
    for response in responses:
        kind = response.WhichOneof("message")
        if kind == "deliver":
            delivery = response.deliver.deliveries[0]
            send(acknowledgement(delivery))
            send(progress(delivery))
        elif kind == "progress_ack":
            saved = response.progress_ack.verdict
            told["saved"] = worker_service_pb2.ProgressVerdict.Name(saved)
            send(result(delivery, told))
        elif kind == "results_ack":
            verdict = response.results_ack.verdicts[0].verdict
            told["verdict"] = worker_service_pb2.ResultVerdict.Name(verdict)
            send(worker_service_pb2.WorkRequest(drain=worker_service_pb2.Drain()))
            send(None)


def acknowledgement(delivery):
    ack = worker_service_pb2.DeliveryAck(delivery_tokens=[delivery.delivery_token])
    return worker_service_pb2.WorkRequest(delivery_ack=ack)


def progress(delivery):
    checkpoint = worker_service_pb2.Checkpoint(counters={"letters": 3})
    saved = worker_service_pb2.Progress(
        delivery_token=delivery.delivery_token, checkpoint=checkpoint, sequence=1
    )
    return worker_service_pb2.WorkRequest(progress=saved)


def result(delivery, told):
    context = json.loads(delivery.context.data)
    told["delivered"] = {
        "step": delivery.step_name,
        "attempt": delivery.attempt,
        "context": context,
    }
    greeting = json.dumps(f"Hello, {context['name']}").encode()
    # Which of the steps that wait for this decision come into being.
    loud = step_pb2.Expansion(create_steps=step_pb2.CreateSteps(step_names=["exclaim"]))
    done = worker_service_pb2.StepResult(
        delivery_token=delivery.delivery_token,
        success=payload_pb2.Payload(data=greeting),
        expansion=loud,
    )
    return worker_service_pb2.WorkRequest(results=worker_service_pb2.Results(results=[done]))


if __name__ == "__main__":
    main(sys.argv[1])
