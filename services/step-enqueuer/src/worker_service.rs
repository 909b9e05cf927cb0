//! `tasker.v1.WorkerService`: decodes, calls the session, encodes.

use tasker_api::{
    mesh::v1::SubmittedResult,
    v1::{
        PollStepsRequest, PollStepsResponse, RenewLeasesRequest, RenewLeasesResponse,
        ReportResultsRequest, ReportResultsResponse, WorkRequest, WorkResponse,
        worker_service_server::WorkerService,
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
        let answers = self.results.call(submitted).await.into_iter();
        let verdicts = answers.map(|answer| Ok(answer?.verdict)).collect::<Result<_, _>>();
        let verdicts = verdicts.map_err(|error| refused(&error))?;
        Ok(Response::new(ReportResultsResponse { verdicts }))
    }

    async fn renew_leases(
        &self,
        request: Request<RenewLeasesRequest>,
    ) -> Result<Response<RenewLeasesResponse>, Status> {
        self.renew(request.into_inner()).await.map(Response::new)
    }
}
