//! Programs made by `#[hurtig::main]`, run by a stand-in for `hurtig::entry`.

/// What the macro calls, recording that it was called.
mod stand_in {
    pub(crate) mod entry {
        use std::future::Future;
        use std::pin::pin;
        use std::process::ExitCode;
        use std::task::{Context, Poll, Waker};

        fn finish<F: Future<Output = Result<(), u8>>>(program: F) -> ExitCode {
            match pin!(program).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => ExitCode::SUCCESS,
                Poll::Ready(Err(code)) => ExitCode::from(code),
                Poll::Pending => panic!("these programs never wait"),
            }
        }

        pub(crate) fn run<F: Future<Output = Result<(), u8>>>(program: impl FnOnce(u8) -> F) -> ExitCode {
            finish(program(7))
        }

        pub(crate) fn run0<F: Future<Output = Result<(), u8>>>(program: impl FnOnce() -> F) -> ExitCode {
            finish(program())
        }
    }
}

mod with_environment {
    #[hurtig_macros::main(crate = "crate::stand_in")]
    pub(crate) async fn main(env: u8) -> Result<(), u8> {
        Err(env)
    }
}

mod without_environment {
    #[hurtig_macros::main(crate = "crate::stand_in")]
    pub(crate) async fn main() -> Result<(), u8> {
        Ok(())
    }
}

#[test]
fn programs_run_with_and_without_an_environment() {
    assert_eq!(with_environment::main(), std::process::ExitCode::from(7));
    assert_eq!(without_environment::main(), std::process::ExitCode::SUCCESS);
}
