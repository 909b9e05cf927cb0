//! The mesh within another program, as tests and benches run it.

use tasker_client::Client;
use tasker_runtime::config::Source;
use tasker_standalone::Standalone;
use tasker_testing::TestDatabase;

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_in_one_process_do_not_know_of_each_other() {
    let mut running = Vec::new();
    for _ in 0..2 {
        let database = TestDatabase::empty().await;
        let flags = [
            "--gateway.listen=127.0.0.1:0".to_owned(),
            format!("--database.url={}", database.url()),
        ];
        let source = Source::from_parts(flags, []).unwrap();
        running.push((Standalone::start(source).await.unwrap(), database));
    }
    assert_ne!(running[0].0.gateway_url(), running[1].0.gateway_url());
    for (mesh, database) in running {
        let client = Client::connect(mesh.gateway_url()).await.unwrap();
        assert!(client.health().await.unwrap().ready);
        mesh.stop().await.unwrap();
        drop(database);
    }
}
