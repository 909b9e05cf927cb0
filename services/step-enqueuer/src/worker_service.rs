//! `tasker.v1.WorkerService`: decodes, calls the session, encodes.

use tasker_api::{
    mesh::v1::SubmittedResult,
    v1::{
        PollStepsRequest, PollStepsResponse, RenewLeasesRequest, RenewLeasesResponse,
        ReportResultsRequest, ReportResultsResponse, SaveProgressRequest, SaveProgressResponse,
        WorkRequest, WorkResponse, worker_service_server::WorkerService,
    },
};
use tasker_stage::refused;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{next::Submission, session::Sessions};

/// Who is named in the history where a worker does not say who it is.
const UNNAMED: &str = "worker";

#[tonic::async_trait]
impl WorkerService for Sessions {
    type WorkStream = ReceiverStream<Result<WorkResponse, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<WorkRequest>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        Ok(Response::new(ReceiverStream::new(self.open(request.into_inner()))))
    }

    async fn poll_steps(
        &self,
        request: Request<PollStepsRequest>,
    ) -> Result<Response<PollStepsResponse>, Status> {
        self.poll(request.into_inner()).await.map(Response::new)
    }

    async fn report_results(
        &self,
        request: Request<ReportResultsRequest>,
    ) -> Result<Response<ReportResultsResponse>, Status> {
        let results = request.into_inner().results.into_iter();
        let submitted = results.map(|result| Submission {
            result: SubmittedResult {
                result: Some(result),
                worker_id: UNNAMED.to_owned(),
                places: Vec::new(),
            },
            session: None,
        });
        let reported: Vec<_> = submitted.map(|report| self.reports.submit(report)).collect();
        let mut verdicts = Vec::with_capacity(reported.len());
        for reported in reported {
            let verdict = match reported {
                Ok(reported) => self.reports.verdict(reported).await,
                Err(error) => Err(error),
            };
            verdicts.push(verdict.map_err(|error| refused(&error))?.verdict);
        }
        // Nobody holds what a session that polls is done with.
        self.deliveries.roster.may_have_ended();
        Ok(Response::new(ReportResultsResponse { verdicts }))
    }

    async fn save_progress(
        &self,
        request: Request<SaveProgressRequest>,
    ) -> Result<Response<SaveProgressResponse>, Status> {
        let mut saving = Vec::new();
        for progress in request.into_inner().progress {
            saving.push(self.progress.save(progress).await.map_err(|error| refused(&error))?);
        }
        let mut acks = Vec::with_capacity(saving.len());
        for saving in saving {
            acks.push(saving.saved().await.map_err(|error| refused(&error))?);
        }
        Ok(Response::new(SaveProgressResponse { acks }))
    }

    async fn renew_leases(
        &self,
        request: Request<RenewLeasesRequest>,
    ) -> Result<Response<RenewLeasesResponse>, Status> {
        self.renew(request.into_inner()).await.map(Response::new)
    }
}
