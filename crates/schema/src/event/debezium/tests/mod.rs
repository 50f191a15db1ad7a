mod postgres;
mod properties;
mod recording;
